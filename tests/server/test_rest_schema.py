"""REST answers as its OpenAPI document says: schemathesis makes calls from the document, right and wrong ones."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import openapi
from schemathesis.checks import response_headers_conformance
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from clients.client import Client, connect

EXAMPLES = int(os.environ.get("ROADLOOP_FUZZ_REST", "150"))
CHECKS = [
    status_code_conformance,  # no status that the document does not name
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def server(run_server: Any) -> Iterator[Any]:
    with run_server("--set", "lease_s=0.5") as server:
        yield server


@pytest.fixture(scope="module")
def operations(server: Any, http: Any) -> list[Any]:
    schema = openapi.from_dict(http(server.url, "/openapi.json").body)
    return [result.ok() for result in schema.get_all_operations()]


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[Client]:
    """A session with a world and a snapshot that calls can hit."""
    with connect(server.url) as client:
        client.session.reset("zero", rig="front1")
        client.session.snapshot()
        yield client


def test_the_document_is_one_that_tools_can_read(operations: list[Any]) -> None:
    paths = {(operation.method.upper(), operation.path) for operation in operations}
    assert {("GET", "/v1/sessions/{session}/map"), ("PUT", "/v1/sessions/{session}/tier")} <= paths
    assert len(paths) >= 18


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
    ],
)
@given(data=st.data())
# The client's keepalive draws its pings from `random` in a thread of its own; a ping during a draw is no fault of the draw.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_of_the_document(
    server: Any, client: Client, operations: list[Any], mode: GenerationMode, data: st.DataObject
) -> None:
    operation = data.draw(st.sampled_from(operations))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    if "session" in case.path_parameters and data.draw(st.booleans()):
        case.path_parameters["session"] = client.session.name
    response = case.call(base_url=server.url, timeout=30, proxies={"http": ""})
    assert response.status_code != 500
    case.validate_response(response, checks=CHECKS)
