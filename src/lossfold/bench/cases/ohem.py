"""OHEM cross entropy: three passes at least, since which pixels count is known only after the first."""

from __future__ import annotations

from .. import definitions
from ..case import Case
from ..inputs import label_sample
from .common import own_entries, plain_entries

THRESH = 0.7
MIN_KEPT = 100_000

LIBRARIES = ("monai", "smp", "kornia", "toolbelt")

CASES = (
    Case(
        name="ohem",
        title="OHEM CE",
        truth=definitions.ohem,
        sample=label_sample,
        passes=3,
        entries={
            **own_entries(
                lambda lf, options: lf.OhemCrossEntropyLoss(thresh=THRESH, min_kept=MIN_KEPT, **options),
                {"ignore_index": definitions.IGNORED},
            ),
            **plain_entries(definitions.ohem),
        },
        lacking=dict.fromkeys(LIBRARIES, "has no OHEM for pixels"),
    ),
)
