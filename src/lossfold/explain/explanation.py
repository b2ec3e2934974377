"""What a criterion's terms do at the scores of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Gradients = dict[str, dict[str, Tensor]]
"""By term, and by the path of the scores."""


@dataclass(frozen=True)
class Explanation:
    """Which term pulls how much.

    Attributes:
        names: of the terms, ``[T]``.
        values: each term before its weight.
        weighted: each term times its weight.
        norms: ``[T]`` float64, the norm of each weighted term's gradient at all scores together.
        shares: ``[T]``, of the sum of the norms; 0 where there is none.
        cosines: ``[T, T]``, between the terms' gradients: 1 where they pull alike, -1 against each other, 0 where one has none.
        along: ``[T]``, the cosine of each term's gradient with the total's.
        by_class: by the path of the scores ``[T, C]``, the norms of each class's or channel's part.
        by_image: ``[T, B]`` likewise, of each image's.
        maps: ``[T, B, *S]`` float32 likewise, at each pixel the norm over the channels; for scores ``[B, C, *S]`` alone.
    """

    names: tuple[str, ...]
    values: Mapping[str, float]
    weighted: Mapping[str, float]
    norms: Tensor
    shares: Tensor
    cosines: Tensor
    along: Tensor
    by_class: Mapping[str, Tensor]
    by_image: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]

    @classmethod
    def of(cls, values: Mapping[str, float], weighted: Mapping[str, float], slopes: Gradients) -> Explanation:
        """Find norms, shares and cosines of gradients, in float64."""
        names = tuple(slopes)
        flat = [torch.cat([g.detach().flatten().cpu() for g in slopes[name].values()]) for name in names]
        products = torch.stack([torch.stack([dot(one, other) for other in flat]) for one in flat])
        total = products.sum(0)
        norms, whole = products.diagonal().clamp_min(0).sqrt(), products.sum().clamp_min(0).sqrt()
        rows = {path: torch.stack([slopes[name][path].detach().cpu().float() for name in names]) for path in slopes[names[0]]}
        images = {path: one for path, one in rows.items() if one.dim() >= 4}  # [T, B, C, *S]
        return cls(
            names,
            dict(values),
            dict(weighted),
            norms,
            divided(norms, norms.sum()),
            divided(products, norms[:, None] * norms),
            divided(total, norms * whole),
            {path: size(one, keep=2) for path, one in images.items()},
            {path: size(one, keep=1) for path, one in images.items()},
            {path: torch.linalg.vector_norm(one, dim=2) for path, one in images.items()},
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each term, as ``pandas.DataFrame(explanation.rows())`` takes them."""
        columns = zip(self.names, self.norms.tolist(), self.shares.tolist(), self.along.tolist(), strict=True)
        return [
            {
                "term": name,
                "value": self.values[name],
                "weighted": self.weighted[name],
                "gradient": norm,
                "share": share,
                "along": along,
                **{f"cosine/{other}": cosine for other, cosine in zip(self.names, cosines, strict=True)},
            }
            for (name, norm, share, along), cosines in zip(columns, self.cosines.tolist(), strict=True)
        ]

    def log(self, prefix: str = "share/") -> dict[str, float]:
        """Return the share of every term under ``prefix`` + name: what loggers take."""
        return {f"{prefix}{name}": share for name, share in zip(self.names, self.shares.tolist(), strict=True)}

    def __str__(self) -> str:
        width = max(len("term"), *map(len, self.names))
        head = f"{'term':<{width}}  {'value':>10}  {'weighted':>10}  {'|gradient|':>10}  {'share':>6}  {'along':>6}"
        lines = [head + "  cosine with " + " ".join(f"{name[:8]:>8}" for name in self.names)]
        for row, cosines in zip(self.rows(), self.cosines.tolist(), strict=True):
            numbers = f"{row['value']:>10.4g}  {row['weighted']:>10.4g}  {row['gradient']:>10.3g}"
            shares = f"{row['share']:>6.0%}  {row['along']:>6.2f}"
            cells = " ".join(f"{cosine:>8.2f}" for cosine in cosines)
            lines.append(f"{row['term']:<{width}}  {numbers}  {shares}  {'':>11} {cells}")
        return "\n".join(lines)

    def picture(self, file: str | Path, *, image: int = 0, dpi: int = 130, class_names: Sequence[str] = ()) -> None:
        """Draw shares, cosines, the classes' parts, and where each term pulls on one image.

        Args:
            file: a name that ends in .png, .svg or .pdf.
            image: which image of the batch.
            dpi: pixels an inch.
            class_names: of the classes or channels, if there are as many.

        Raises:
            LossError: matplotlib is not installed.
        """
        from lossfold.explain.picture import drawn

        drawn(self, image, class_names=class_names).savefig(file, dpi=dpi)

    def page(self, file: str | Path, title: str = "", class_names: Sequence[str] = ()) -> None:
        """Write a page of HTML that needs nothing else: the table, and the picture of up to four images.

        Raises:
            LossError: matplotlib or jinja2 are not installed.
        """
        from lossfold.explain.page import written

        Path(file).write_text(written(self, title, class_names), encoding="utf-8")


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return the scalar product in float64, block by block."""
    blocks = 1 + (one.numel() >> 20)
    pairs = zip(one.chunk(blocks), other.chunk(blocks), strict=True)
    return torch.stack([(a.double() * b.double()).sum() for a, b in pairs]).sum()


def divided(above: Tensor, below: Tensor) -> Tensor:
    """Return a quotient, 0 where there is nothing to divide by."""
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))


def size(gradients: Tensor, keep: int) -> Tensor:
    """Return norms of ``[T, B, C, *S]`` over all but the first dimension and one more."""
    norms: Tensor = torch.linalg.vector_norm(gradients.movedim(keep, 1).flatten(2), dim=2, dtype=torch.float64)
    return norms
