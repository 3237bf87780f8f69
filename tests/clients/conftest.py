"""Servers for all tests of the client side: worlds that cost nothing, in a process of their own or in this one."""

from collections.abc import Callable, Iterator

import pytest

from clients.eval.testing import FakeServer
from clients.local import local_server


@pytest.fixture(scope="session")
def zero_url() -> Iterator[str]:
    with local_server("zero") as url:
        yield url


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeServer], FakeServer]:
    """Lets the harness connect to a server in this process."""

    def connect_to(server: FakeServer) -> FakeServer:
        for module in ("runner", "harness"):
            monkeypatch.setattr(f"clients.eval.{module}.connect", server.connect)
        return server

    return connect_to


@pytest.fixture
def world(use: Callable[[FakeServer], FakeServer]) -> FakeServer:
    """The server of a run, and it works."""
    return use(FakeServer())
