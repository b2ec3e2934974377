"""No test of a frozen network reaches for the net."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A download fails loudly, whichever way it is tried."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    yield


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """A pair of images in [-1, 1]."""
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.rand(2, 3, 32, 40, generator=generator) * 2 - 1 for _ in range(2))  # type: ignore[return-value]
