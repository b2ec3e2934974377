"""The documentation: a page for each loss, written out; and in full runs the whole site, without a warning."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lossfold as lf

pytest.importorskip("matplotlib")
pytest.importorskip("skimage")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The pages of the losses, without pictures."""
    monkeypatch.syspath_prepend(str(DOCS))
    writer = importlib.import_module("loss_pages")
    monkeypatch.setattr(writer, "FOLDER", tmp_path)
    writer.write(pictures=False)
    return tmp_path


def test_a_page_for_each_loss(pages: Path) -> None:
    for name in [*lf.LOSSES, "mask_losses"]:
        text = (pages / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n") and "## Options" in text and "## Where it fails" in text, name
        options = text.partition("## Options")[2].partition("\n## ")[0]
        assert "as for" not in options and "``" not in options, name
        assert text.count("```") % 2 == 0 and "::\n" not in text, name
    dice = (pages / "DiceLoss.md").read_text()
    assert "- **`ignore_index`**: `int` = `-100`  \n  the label of" in dice and "monai" in dice.lower() and "| ✓ |" in dice
    assert re.search(r"## Reference\n\nMilletari", dice)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "generated" / "DiceLoss.html").read_text()
    assert "DiceLoss_pull.png" in page and "DiceLoss_curve.png" in page
    images = re.findall(r"<img [^>]*>", "".join(file.read_text() for file in tmp_path.rglob("*.html")))
    assert images and all(re.search(r'alt="[^"]+"', image) for image in images)
