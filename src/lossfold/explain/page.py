"""An explanation as one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from lossfold.errors import LossError
from lossfold.explain.picture import drawn

if TYPE_CHECKING:
    from lossfold.explain.explanation import Explanation

IMAGES = 4


def written(found: Explanation, title: str = "", class_names: Sequence[str] = ()) -> str:
    """Return the page."""
    try:
        from jinja2 import Environment
    except ImportError:
        raise LossError("explain", "page", "made with jinja2", "none installed", "pip install jinja2") from None
    batch = max((maps.shape[1] for maps in found.maps.values() if maps.dim() == 4), default=1)
    pictures = []
    for image in range(min(batch, IMAGES)):
        buffer = io.BytesIO()
        drawn(found, image, image > 0, class_names).savefig(buffer, dpi=130, format="png")
        pictures.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    template = Environment(autoescape=True).from_string(files("lossfold.explain").joinpath("page.html").read_text("utf-8"))
    return template.render(title=title or ", ".join(found.names), rows=found.rows(), pictures=pictures)
