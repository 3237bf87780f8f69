"""The files that operators use agree with the code."""

import json
import re
from pathlib import Path

import pytest
import yaml

from clients.protocol import ErrorCode
from clients.protocol.requests import Request
from server.config import load_config
from server.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
NAMES = {family.name for family in Metrics().registry.collect()}


def names_in(text: str) -> set[str]:
    found = set(re.findall(r"roadloop_[a-z_]+", text))
    return {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in found}


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    plain = {name.removesuffix("_info") for name in NAMES}
    assert {
        name.removesuffix("_info") for name in names_in((ROOT / "docs/operations.md").read_text())
    } == plain


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    panels = json.loads((ROOT / "docker/grafana/roadloop.json").read_text())["panels"]
    asked = names_in(" ".join(target["expr"] for panel in panels for target in panel["targets"]))
    assert asked <= NAMES
    assert len(asked) >= 10


def test_the_protocol_page_names_every_request_and_error() -> None:
    page = (ROOT / "docs/protocol.md").read_text()
    for model in Request.__args__[0].__args__:  # type: ignore[attr-defined]
        assert f"`{model.model_fields['type'].default}" in page
        for field in model.model_fields:
            assert field in page, field
    for code in ErrorCode:
        assert f"`{code}`" in page


@pytest.mark.parametrize(
    "name", ["compose.yaml", "prometheus.yaml", "grafana/source.yaml", "grafana/dashboards.yaml"]
)
def test_the_container_files_are_yaml(name: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / "docker" / name).read_text()), dict)


def test_the_container_configuration_is_valid() -> None:
    config = load_config(ROOT / "docker/server.yaml", {})
    assert {token.name for token in config.tokens} == {"demo", "prometheus"}
