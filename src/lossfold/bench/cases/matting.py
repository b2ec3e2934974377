"""Losses of alpha mattes, the Laplacian pyramid alone and the criterion of four terms: two passes at least.

The signs of the differences decide the gradient, and the regions' areas are known without the predictions: no third reading.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .. import definitions
from ..case import Case, Sizes, Tolerance
from ..inputs import alpha_sample
from ..providers import PROVIDERS
from .common import own_entries, plain_entries

SIZES = Sizes(full=(4, 1, 512, 512), quick=(2, 1, 256, 256), fewest_channels=1)
LARGE_SIZES = Sizes(full=(1, 1, 4096, 4096), quick=(1, 1, 512, 512), fewest_channels=1)

# The gradient is made of the signs of differences: in float32 those near 0 turn either way, about one in 10^5 or 10^6, and each
# that turns is an error of twice its own size.
SIGN_TOLERANCE = Tolerance(gradient=1e-2)

LACKING = {
    **{key: "has no losses of alphas" for key, provider in PROVIDERS.items() if provider.library},
    "kornia": "its pyramid's up-sampling is bilinear, another filter, and it has no losses of alphas",
}

LAPLACIAN = Case(
    name="laplacian",
    title="Laplacian pyramid",
    truth=definitions.laplacian,
    sample=partial(alpha_sample, region=False),
    passes=2,
    entries={
        **own_entries(lambda lf, options: lf.LaplacianPyramidLoss(**options), {}),
        **plain_entries(definitions.laplacian),
    },
    lacking=LACKING,
    tolerance=SIGN_TOLERANCE,
    sizes=SIZES,
    leaf="alphas",
    exponentials=0,
)

MATTING = replace(
    LAPLACIAN,
    name="matting",
    title="Matting: 4 terms",
    truth=definitions.matting,
    sample=alpha_sample,
    entries={
        **own_entries(lambda lf, options: lf.MattingLoss(**options), {}),
        **plain_entries(definitions.matting),
    },
)

CASES = (
    MATTING,
    LAPLACIAN,
    replace(MATTING, name="matting-large", title="Matting, one large alpha", sizes=LARGE_SIZES, most_repeats=3),
)
