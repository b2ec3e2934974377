"""torch.compile without graph breaks: all losses of a fold that read alike in one graph, and inductor once a fold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Case, Data, close, evaluate, run, slope_of
from tests.contract.cases import A_LOSS, CASES, each, every, first_of, native

engines = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function: Callable[..., Any], data: Data, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
    """Value and gradient of a function of tensors, compiled; what is no scalar is summed."""
    leaf = data.leaf()
    result = torch.compile(lambda *given: run(function, data_of(given, data)).sum(), fullgraph=True, backend=backend, **options)(
        *leaf.tensors
    )
    return result.detach(), slope_of(result, leaf.pred)


def data_of(tensors: tuple[Tensor, ...], like: Data) -> Data:
    """`Data.tensors`, undone."""
    left = list(tensors)
    pred, images = left.pop(0), tuple(left.pop(0) for _ in like.images)
    target = left.pop(0) if like.target is not None else None
    return Data(pred, target, left.pop(0) if like.weight is not None else None, images)


def space_of(case: Case) -> tuple[int, ...]:
    return case.spaces[0] if case.fold == "window" else (9, 11)


def together(cases: list[Case], many: int) -> dict[str, list[Case]]:
    """The cases that can be given the same tensors, and so be compiled into one graph; so many in each."""
    alike: dict[Any, list[Case]] = {}
    for case in map(Case.small, cases):
        given = [(tensor.shape, tensor.dtype) for tensor in case.make(space_of(case), way=case.rich).tensors]
        alike.setdefault((case.fold, case.link, *given, case.options.get("data_range")), []).append(case)
    graphs: dict[str, list[Case]] = {}
    for (fold, link, *_), group in alike.items():
        for at in range(0, len(group), many):
            graphs[f"{fold}-{link}-{len(graphs)}"] = group[at : at + many]
    return graphs


def graphs(cases: list[Case], many: int, quick: Callable[[str, str], bool] = lambda name, engine: False) -> pytest.MarkDecorator:
    """Parametrize `cases` and `engine`; what is not quick is slow."""
    return pytest.mark.parametrize(
        ("cases", "engine"),
        [
            pytest.param(served, engine, id=f"{name}-{engine}", marks=[] if quick(name, engine) else [pytest.mark.slow])
            for (name, group), engine in itertools.product(together(cases, many).items(), ENGINES)
            if (served := [case for case in group if engine in case.engines])
        ],
    )


def all_at_once(cases: list[Case], engine: str, backend: str, dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Of losses that are compiled into one graph: which, what came, and the truth; their gradients with a factor for each."""
    data = cases[0].make(space_of(cases[0]), dtype=dtype, way=cases[0].rich)
    if dtype is not torch.float64:
        for case in cases:
            data = case.settled(data)
    losses = [case.build(engine=engine) for case in cases]

    def several(*tensors: Tensor) -> Tensor:
        return torch.stack([run(loss, data_of(tensors, data)).sum() for loss in losses])

    leaf = data.leaf()
    results = torch.compile(several, fullgraph=True, backend=backend)(*leaf.tensors)
    factors = 1 + torch.arange(len(cases), dtype=results.dtype)
    gradient, slope = slope_of(results, leaf.pred, factors), torch.zeros_like(data.pred)
    for case, factor, loss, result in zip(cases, factors, losses, results, strict=True):
        truth, own = evaluate(loss, data)
        yield case.id, result.detach(), truth.sum()
        slope += factor * own
    yield "gradient", gradient, slope


def in_one_graph(cases: list[Case], engine: str) -> None:
    """The compiled graph makes the same passes, so that only the formulas' last roundings may differ."""
    for name, found, truth in all_at_once(cases, engine, "aot_eager", torch.float64):
        rtol, atol = (1e-12, 1e-15 * len(cases)) if name == "gradient" else (1e-13, 1e-14)
        torch.testing.assert_close(found, truth, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


@graphs(
    first_of(lambda case: (case.fold, case.name, case.maps), [case for case in CASES if not case.is_set]),
    30,
    lambda name, engine: engine == ENGINES[-1],
)
def test_fullgraph(cases: list[Case], engine: str) -> None:
    """Short runs on the engine that serves by itself; its definitions are compiled where shapes change, below."""
    in_one_graph(cases, engine)


@graphs(CASES, 15)
def test_fullgraph_of_every_sample(cases: list[Case], engine: str) -> None:
    in_one_graph(cases, engine)


@graphs(A_LOSS, 8)
def test_inductor_of_every_loss(cases: list[Case], engine: str) -> None:
    loose = 1e-4 if cases[0].fold == "window" else 1e-5
    for name, found, truth in all_at_once(cases, engine, "inductor", torch.float32):
        rtol, atol = (loose, loose / 100 * len(cases) ** 2) if name == "gradient" else (1e-5, 1e-6)
        torch.testing.assert_close(found, truth, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.slow
@every(first_of(lambda case: (case.fold, case.link)))
def test_inductor_of_every_fold_in_half_precision(case: Case) -> None:
    case = case.small()
    data = case.settled(case.make(space_of(case), dtype=torch.bfloat16, way=case.rich))
    result, gradient = compiled(case.build(), data, "inductor")
    truth, slope = evaluate(case.build(), data)
    close(result, truth.sum(), 1e-5, 1e-6)
    close(gradient, slope, 1e-2, 1e-4)


CHANGING: dict[str, Callable[[str], Any]] = {
    "label": lambda engine: lf.LossSet(dice=lf.DiceLoss(engine=engine), ce=lf.CrossEntropyLoss(engine=engine)),
    "label-identity": lambda engine: lf.DiceLoss(link="identity", engine=engine),
    "dense": lambda engine: lf.DiceLoss(link="sigmoid", engine=engine),
    "pair": lambda engine: lf.MattingLoss(
        losses=["unknown_l1_loss", *([lf.LaplacianPyramidLoss(levels=2, engine=engine)] if engine == "cpp" else [])], engine=engine
    ),
    "window": lambda engine: lf.MSSSIMLoss(betas=(0.4, 0.6), padding="reflect", engine=engine),
}
"""The operators of the compiled engine also with a pyramid: the sides of each level follow those of the image."""


QUICK = [("eager", "label"), ("cpp", "label")]
SHAPES = [  # the definition of the window fold pads by fixed sides
    pytest.param(engine, kind, marks=[pytest.mark.slow] * ((engine, kind) not in QUICK))
    for engine, kind in itertools.product(ENGINES, CHANGING)
    if (engine, kind) != ("eager", "window")
]


@pytest.mark.parametrize(("engine", "kind"), SHAPES)
def test_fullgraph_with_shapes_that_change(kind: str, engine: str) -> None:
    loss = CHANGING[kind](engine)
    fold, _, link = kind.partition("-")
    case = next(one for one in CASES if one.fold == fold and one.link == (link or one.link))
    case = case if fold != "dense" else next(one for one in CASES if one.fold == fold and one.link == "sigmoid")
    like = case.make(way=case.rich)
    function = torch.compile(lambda *given: run(loss, data_of(given, like)), fullgraph=True, backend="aot_eager", dynamic=True)
    for space in ((28, 31), (37, 24), (24, 24)):
        leaf = case.make(space, dtype=torch.float32, way=case.rich).leaf()
        result = function(*leaf.tensors)
        truth, slope = evaluate(loss, leaf)
        close(result.detach(), truth, 1e-6, 1e-6)
        close(slope_of(result, leaf.pred), slope, 1e-5, 1e-7)


ONCE: dict[str, Callable[[], Any]] = {
    "label": lambda: lf.CEDiceLoss(),
    "dense": lambda: lf.BinaryCrossEntropyLoss(reduction="none"),
    "pair": lambda: lf.MattingLoss(losses=["unknown_l1_loss", "known_l1_loss"]),
    "window": lambda: lf.SSIMLoss(engine=ENGINES[-1]),
}


@native
@pytest.mark.parametrize("fold", ["label", *(pytest.param(fold, marks=pytest.mark.slow) for fold in ONCE if fold != "label")])
def test_inductor_once_a_fold(fold: str) -> None:
    """On the engine that serves by itself; every loss on every engine is left to the slow matrix."""
    loss = ONCE[fold]()
    case = next(one for one in CASES if one.fold == fold)
    data = case.make((24, 20), dtype=torch.float32, way=case.rich)
    result, gradient = compiled(loss, data, "inductor")
    truth, slope = evaluate(loss, data)
    close(result, truth.sum(), 1e-6, 1e-6)
    close(gradient, slope, 1e-4 if fold == "window" else 1e-5, 1e-6 if fold == "window" else 1e-7)


WRONG: dict[str, tuple[Callable[[str], Any], int, str | None]] = {
    "label": (lambda engine: lf.DiceLoss(engine=engine), 5, None),
    "dense": (lambda engine: lf.BinaryCrossEntropyLoss(engine=engine), 255, None),
    "pair": (lambda engine: lf.UnknownL1Loss(engine=engine), 128, "region"),
}


@engines
@pytest.mark.parametrize("fold", WRONG)
def test_what_is_out_of_range_surfaces_from_compiled_code(fold: str, engine: str) -> None:
    build, wrong, word = WRONG[fold]
    case = next(one for one in CASES if one.fold == fold)
    data = case.make(dtype=torch.float32, way=case.rich)
    spoilt = data.weight if fold == "pair" else data.target
    assert spoilt is not None
    spoilt.view(-1)[0] = wrong
    with pytest.raises((RuntimeError, lf.LossError, IndexError), match=word):
        compiled(build(engine), data, "aot_eager")


@each([case for case in CASES if case.name == "CEDiceLoss"][:1])
def test_a_set_compiles(case: Case) -> None:
    """As a whole: its total and each of its terms."""
    loss, data = case.build(), case.make(way=case.rich)
    leaf = data.leaf()
    out = torch.compile(lambda *given: loss(*given), fullgraph=True, backend="aot_eager")(*leaf.call)
    truth = loss(*data.call)
    assert list(out.terms) == list(truth.terms)
    close(out.total.detach(), truth.total)
    for name, term in truth.terms.items():
        close(out.terms[name], term)
