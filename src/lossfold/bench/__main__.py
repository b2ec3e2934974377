"""`python -m lossfold.bench`: the same as `lossfold bench`."""

import sys

from .command import main

raise SystemExit(main(sys.argv[1:]))
