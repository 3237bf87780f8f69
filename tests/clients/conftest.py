"""One server for all tests of the client side: worlds that cost nothing."""

from collections.abc import Iterator

import pytest

from clients.local import local_server


@pytest.fixture(scope="session")
def zero_url() -> Iterator[str]:
    with local_server("zero") as url:
        yield url
