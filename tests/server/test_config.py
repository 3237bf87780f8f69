from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from server.commands import register
from server.config import ConfigError, ServerConfig, load_config


def build_app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("port: 1\nlease_s: 7\nengine: zero\n")
    config = load_config(
        file, {"ROADLOOP_SERVER_PORT": "2", "ROADLOOP_SERVER_ENGINE": "reference", "OTHER": "x"}, port=3
    )
    assert (config.port, config.lease_s, config.engine) == (3, 7.0, "reference")


@pytest.mark.parametrize(
    ("environment", "flags", "words"),
    [
        ({"ROADLOOP_SERVER_PROT": "1"}, {}, "prot: expected one of host, port"),
        ({}, {"lease_s": -1}, "lease_s: .*greater than 0"),
        ({}, {"host": "0.0.0.0"}, "expected at least one token to listen on 0.0.0.0, got none"),
        ({}, {"snapshot_on_drain": True}, "expected snapshot_dir with snapshot_on_drain, got none"),
        ({}, {"workers": ["zero=cpu:1", "reference=gpu:1"]}, "expected cpu:N or cuda:I,J, got 'gpu:1'"),
        ({}, {"workers": "tpu:1"}, "expected cpu:N or cuda:I,J, got 'tpu:1'"),
        (
            {},
            {"tokens": [{"name": "a", "sha256": "0" * 64, "scopes": ["fly"]}]},
            "expected scopes of drive, view, admin",
        ),
        ({}, {"tokens": [{"name": "a", "token": "x"}]}, "tokens.0.token: expected one of name, sha256"),
    ],
    ids=[
        "unknown",
        "range",
        "open address",
        "no folder",
        "one of several workers",
        "workers",
        "scope",
        "token key",
    ],
)
def test_settings_that_make_no_sense_are_refused(
    environment: dict[str, str], flags: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(None, environment, **flags)


def test_workers_name_their_devices() -> None:
    assert [w["device"] for w in ServerConfig(workers="cpu:2").engines] == ["cpu", "cpu"]
    assert [w["device"] for w in ServerConfig(workers="cuda:0,3").engines] == ["cuda:0", "cuda:3"]


def test_several_engines_have_workers_and_options_of_their_own() -> None:
    config = ServerConfig(
        engine="worldmodel",
        engine_options={"model": "S"},
        workers=["reference=cpu:1", "worldmodel=cuda:0", "cpu:1"],
        more_engine_options={"reference": {"x": 1}},
    )
    assert config.engines == [
        {"name": "reference", "device": "cpu", "options": {"x": 1}},
        {"name": "worldmodel", "device": "cuda:0", "options": {"model": "S"}},
        {"name": "worldmodel", "device": "cpu", "options": {"model": "S"}},
    ]


@pytest.mark.parametrize("path", sorted(Path("configs/server").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_are_valid(path: Path) -> None:
    load_config(path, {})


def test_a_created_token_fits_the_configuration(tmp_path: Path) -> None:
    ran = CliRunner().invoke(build_app(), ["token", "create", "alice", "--scope", "view"])
    assert ran.exit_code == 0, ran.output
    first, entry = ran.output.split("\n", 1)
    assert first.startswith("token (shown only now): rl_")
    config = load_config(None, {}, **yaml.safe_load(entry))
    assert (config.tokens[0].name, config.tokens[0].scopes) == ("alice", ["view"])


def test_wrong_settings_end_serve_with_code_2() -> None:
    ran = CliRunner().invoke(build_app(), ["serve", "--set", "colour=blue"])
    assert ran.exit_code == 2
    assert "colour: expected one of" in ran.output
