"""Who is measured: lossfold's engines, PyTorch as people write it, and the peer libraries."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Provider:
    """Somebody who computes losses.

    Args:
        key: the name on the command line and in result files.
        title: the name in tables and plots.
        module: what must be importable.
        package: the distribution that its version is read from.
        ours: lossfold itself; never a rival in a ratio.
        library: a peer library, neither lossfold nor PyTorch.
        devices: where it runs.
    """

    key: str
    title: str
    module: str
    package: str
    ours: bool = False
    library: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def installed(self) -> bool:
        """Whether the module can be found (it is not imported)."""
        return find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The installed version, or an empty string."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


PROVIDERS: dict[str, Provider] = {
    provider.key: provider
    for provider in (
        Provider("lossfold-cpp", "lossfold (cpp)", "lossfold", "lossfold", ours=True, devices=("cpu",)),
        Provider("lossfold-triton", "lossfold (triton)", "lossfold", "lossfold", ours=True, devices=("cuda",)),
        Provider("lossfold-compiled", "lossfold (compiled)", "lossfold", "lossfold", ours=True, devices=("cuda",)),
        Provider("lossfold-eager", "lossfold (eager)", "lossfold", "lossfold", ours=True),
        Provider("eager", "PyTorch eager", "torch", "torch"),
        Provider("compile", "torch.compile", "torch", "torch"),
        Provider("torchvision", "torchvision", "torchvision", "torchvision", library=True),
        Provider("monai", "MONAI", "monai", "monai", library=True),
        Provider("smp", "segm. models", "segmentation_models_pytorch", "segmentation_models_pytorch", library=True),
        Provider("kornia", "kornia", "kornia", "kornia", library=True),
        Provider("toolbelt", "toolbelt", "pytorch_toolbelt", "pytorch-toolbelt", library=True),
        Provider("torchmetrics", "torchmetrics", "torchmetrics", "torchmetrics", library=True),
        Provider("piq", "piq", "piq", "piq", library=True),
        Provider("scipy", "SciPy", "scipy", "scipy", library=True, devices=("cpu",)),
        Provider("scikit-image", "scikit-image", "skimage", "scikit-image", library=True, devices=("cpu",)),
        Provider("fused-ssim", "fused-ssim", "fused_ssim", "fused-ssim", library=True, devices=("cuda",)),
        Provider("pytorch-msssim", "pytorch-msssim", "pytorch_msssim", "pytorch-msssim", library=True),
    )
}
"""Every provider by key, in the order of tables and plots."""


def on(device: str) -> tuple[str, ...]:
    """The providers that run on a device."""
    return tuple(key for key, provider in PROVIDERS.items() if device in provider.devices)
