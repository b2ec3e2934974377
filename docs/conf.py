"""How the documentation is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import lossfold

project, author, copyright = "lossfold", "the lossfold developers", "the lossfold developers"
version = release = lossfold.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "loss_pages",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4
html_theme, html_title = "furo", f"lossfold {version}"
html_static_path: list[str] = []
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Gradient", "returns_style")]
nitpicky = False
smartquotes = False
