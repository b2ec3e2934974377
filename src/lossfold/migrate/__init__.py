"""From other libraries to this one: what each of their losses is called here, and what differs.

``lossfold.migrate.find("monai.DiceCELoss")`` is a row of the table, which ``lossfold show --from monai.DiceCELoss`` prints.
"""

from lossfold.migrate.rows import Row as Row
from lossfold.migrate.rows import Way as Way
from lossfold.migrate.table import PEERS as PEERS
from lossfold.migrate.table import find as find
from lossfold.migrate.table import rows_named as rows_named
