"""The examples in README and docs run as they stand; only the world is swapped for one that costs nothing."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clients
import clients.gym.link
import clients.local

ROOT = Path(__file__).parents[2]
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in ("README.md", "docs/environments.md", "docs/learning.md")
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_example_runs(
    block: str, zero_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.contextmanager
    def zero_server(*_: str) -> Iterator[str]:
        yield zero_url

    monkeypatch.setattr(clients.local, "local_server", zero_server)
    monkeypatch.setattr(clients.gym.link, "local_server", zero_server)
    assert "highway_cruise" in block
    exec(compile(block.replace("highway_cruise", "zero-short"), "<example>", "exec"), {})
    assert capsys.readouterr().out


def test_the_readme_shows_the_client_in_ten_lines() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len([line for line in example.splitlines() if line]) <= 10


def test_the_terms_and_rules_in_docs_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    for module in ("reward", "reward_terms"):
        doc = getattr(__import__(f"clients.{module}"), module).__doc__
        for row in (line for line in doc.splitlines() if line.startswith("|")):
            assert row in page


def test_importing_clients_loads_nothing_until_a_name_is_used() -> None:
    probe = (
        "import sys, clients; heavy = ('numpy', 'websockets', 'pydantic', 'gymnasium', 'torch');"
        "print([m for m in heavy if m in sys.modules], clients.connect.__module__, sorted(clients.__all__) == clients.__all__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[] clients.client True"


def test_every_exported_name_is_there() -> None:
    assert all(getattr(clients, name) is not None for name in clients.__all__)
    assert set(clients.__all__) <= set(dir(clients))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = clients.nothing
