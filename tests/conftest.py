"""Flags of the test command (`--device`, `--dtype`) and what every test may rely on."""

from __future__ import annotations

import gc
import os

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.seeds import seed

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

settings.register_profile("lossfold", deadline=None, derandomize=True, database=None)
settings.load_profile("lossfold")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device that the contract tests run on")
    parser.addoption("--dtype", default="all", help="all, or a comma-separated list of " + ", ".join(DTYPES))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: left to `make test-all`")
    config.addinivalue_line("filterwarnings", "ignore:dynamo_pgo force disabled:UserWarning")  # the variable above
    torch.set_num_threads(1)  # small tensors, and xdist's workers share the cores; tests of threads set their own


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests are as many objects, which every later garbage collection would look at."""
    gc.collect()
    gc.freeze()


def asked_for(config: pytest.Config) -> list[str]:
    names = config.getoption("--dtype")
    return list(DTYPES) if names == "all" else str(names).split(",")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dtype" in metafunc.fixturenames:
        names = asked_for(metafunc.config)
        metafunc.parametrize("dtype", [DTYPES[name] for name in names], ids=names)


@pytest.fixture
def dtypes(request: pytest.FixtureRequest) -> list[torch.dtype]:
    """The dtypes asked for, for a test that runs through them itself."""
    return [DTYPES[name] for name in asked_for(request.config)]


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test starts from one seed and leaves the number of threads as it found it."""
    threads = torch.get_num_threads()
    seed()
    yield
    torch.set_num_threads(threads)
