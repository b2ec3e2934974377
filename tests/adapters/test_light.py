"""The adapters cost nothing until they are asked for."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, lossfold, lossfold.adapters, lossfold.adapters.steps;"
        "print([name for name in ('lightning', 'transformers', 'mmengine') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
