"""Whatever is sent to REST, the answer is a typed one."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATHS = [
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions/{}"),
    ("DELETE", "/v1/sessions/{}"),
    ("POST", "/v1/sessions/{}/fork"),
    ("POST", "/v1/sessions/{}/snapshots"),
    ("POST", "/v1/sessions/{}/restore"),
    ("DELETE", "/v1/snapshots/{}"),
    ("POST", "/v1/tickets"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["count", "handle", "scope", "session", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def server(run_server: Any) -> Iterator[Any]:
    with run_server("--set", "lease_s=0.2") as server:
        yield server


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(PATHS), name=st.text(min_size=1, max_size=20), own=st.booleans(), body=JSON)
def test_any_call_gets_a_typed_answer(
    server: Any, http: Any, where: tuple[str, str], name: str, own: bool, body: Any
) -> None:
    method, path = where
    if own and "{}" in path:
        created = http(server.url, "/v1/sessions", "POST")
        name = created.body["session"] if created.status == 201 else name
    answer = http(server.url, path.format(quote(name, safe="")), method, body)
    assert answer.status < 500 or answer.body["code"] in ("CAPACITY", "DRAINING")
    if answer.status >= 400:
        assert answer.body.keys() >= {"code", "message", "retryable"}
