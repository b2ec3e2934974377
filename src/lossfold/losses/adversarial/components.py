"""MMagic's components: losses that take what they need from one dict of a training step, at an interval."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from lossfold.errors import naming, python_scalar, wrong
from lossfold.losses.adversarial.drift import DiscShiftLoss
from lossfold.losses.adversarial.gan import GANLoss
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer
from lossfold.losses.adversarial.penalties import GradientPenaltyLoss, R1GradientPenalty
from lossfold.losses.base import Loss, left_out
from lossfold.losses.features.clip import CLIPLoss
from lossfold.losses.features.identity import FaceIdLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES
from lossfold.routing import is_one_dict, one_dict

SYNONYMS = {"real_data": "real", "fake_data": "fake", "gt": "target"}
"""MMagic's names of arguments, and ours."""


@configured
class Component(Loss):
    """A loss as MMagic's configs have it: with an interval.

    At a step whose ``iteration`` in the dict of outputs the interval does not divide, it is 0. Its weight does not make up for
    these steps: MMagic's configs have the factor in ``loss_weight`` (``every=`` of a set multiplies by itself).
    """

    interval: int = option(1, at_least=1)

    def settle(self) -> None:
        """Refuse wrong options."""
        if isinstance(self.inputs, Mapping):
            if "num_batches" in self.inputs:
                hint = "{'latents': 'latents'}: the latents that the generator is called with"
                raise wrong("data_info", "with latents in place of num_batches", "num_batches", hint)
            for name, ours in SYNONYMS.items():
                if name in self.inputs and ours in self.inputs:
                    raise wrong("data_info", f"with {name!r} or {ours!r}, which are one", "both")
            object.__setattr__(self, "inputs", {SYNONYMS.get(name, name): path for name, path in self.inputs.items()})
        super().settle()
        self.require("interval", self.interval == 1 or self.inputs is not None, "1 without data_info")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the loss of tensors, or of one dict of outputs."""
        if self.interval > 1 and is_one_dict(inputs, named):
            with naming(type(self).__name__):
                outputs = one_dict(inputs, named)
                if not self.due(outputs):
                    return left_out(outputs)
        return super().__call__(*inputs, **named)

    def due(self, outputs: Any) -> bool:
        """Return whether the interval divides the iteration."""
        if self.interval == 1 or not isinstance(outputs, Mapping):  # which routed() refuses
            return True
        step = python_scalar(outputs.get("iteration"))
        if not isinstance(step, int) or isinstance(step, bool):
            got = f"only {list(outputs)}" if step is None else repr(step)
            raise wrong("iteration", f"an integer in the outputs, because interval={self.interval}", got)
        return step % self.interval == 0


L = TypeVar("L", bound=type[Loss])

OPTIONS = """Args:
    interval: the loss counts where this divides ``iteration`` in the dict of outputs, and is 0 elsewhere; the weight does not make
        up for it, because MMagic's configs write the factor into ``loss_weight``.
    data_info: from argument names, ours or MMagic's (real_data, fake_data, gt), to keys of one dict of outputs.
"""
DEFAULTS: dict[str, Any] = {"loss_weight": 1.0, "batch_shrink": 1}
"""MMagic's, which are not those of our losses."""


def component(base: L) -> L:
    """Return a loss as a component, registered."""
    name = f"{base.__name__}Comps"
    documentation = (inspect.getdoc(base) or "").partition("\n")[2].replace("Args:\n", OPTIONS, 1)
    head = f"{base.__name__} as a component of MMagic's configs: with an interval, MMagic's names and defaults."
    defaults = {name: value for name, value in DEFAULTS.items() if name in base.__dataclass_fields__}
    own: dict[str, Any] = {"__annotations__": {name: type(value).__name__ for name, value in defaults.items()}, **defaults}
    made = type(name, (Component, base), {"__module__": __name__, "__doc__": f"{head}\n{documentation}", **own})
    return LOSSES.register(configured(made))  # type: ignore[return-value]


CLIPLossComps = component(CLIPLoss)
DiscShiftLossComps = component(DiscShiftLoss)
FaceIdLossComps = component(FaceIdLoss)
GANLossComps = component(GANLoss)
GeneratorPathRegularizerComps = component(GeneratorPathRegularizer)
GradientPenaltyLossComps = component(GradientPenaltyLoss)
R1GradientPenaltyComps = component(R1GradientPenalty)
