"""The server's settings: defaults, then a YAML file, then ROADLOOP_SERVER_* variables, then command-line flags.

Unknown keys are refused wherever they stand.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ENVIRONMENT_PREFIX = "ROADLOOP_SERVER_"
SCOPES = ("drive", "view", "admin")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """Settings that make no sense. The message names the key and the valid ones."""


class TokenConfig(BaseModel):
    """A bearer token, kept as its SHA-256 only. `roadloop token create` prints both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[str], Field(min_length=1)]
    max_sessions: Count | None = None

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: list[str]) -> list[str]:
        for scope in scopes:
            if scope not in SCOPES:
                raise ValueError(f"expected scopes of {', '.join(SCOPES)}, got {scope!r}")
        return scopes


class ServerConfig(BaseModel):
    """Everything that `roadloop serve` can be told. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Where and what
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8600  # 0: any free port
    engine: str = "reference"  # zero, reference, worldmodel, or module:callable
    engine_options: dict[str, Any] = {}
    workers: str | Annotated[list[str], Field(min_length=1)] = (
        "cpu:1"  # "cpu:2" is two CPU workers; "cuda:0,1" one on each of two devices  # several engines: ["reference=cpu:1", "worldmodel=cuda:0"]; who does not choose gets the first one
    )
    more_engine_options: dict[str, dict[str, Any]] = {}  # by engine, of those beside `engine`
    pool: Literal["local", "ray"] = "local"  # processes of this machine, or actors of a Ray cluster
    ray_address: str | None = None  # of the cluster; none: RAY_ADDRESS, else a cluster of this machine alone
    ray_cpus: Annotated[float, Field(gt=0)] = 1.0  # cores that each worker reserves there
    # Sessions
    sessions_per_worker: Count = 64
    lease_s: Seconds = 30.0  # how long a session outlives its driver's socket
    ping_interval_s: Seconds = 20.0  # keep-alive of sockets, answered by loops that never run model code
    ping_timeout_s: Seconds = 60.0
    idle_timeout_s: Seconds = 900.0  # how long an attached driver may say nothing
    snapshot_every: Annotated[int, Field(ge=0)] = 0  # chunks between automatic snapshots; 0 is never
    snapshot_bytes: Count = 1 << 30  # budget of memory; the least recently used ones go first
    snapshot_dir: Path | None = None  # where they go then; without it they are gone
    snapshot_dir_bytes: Count = 10 << 30  # budget of that folder
    snapshot_on_drain: bool = False  # a drain writes every session that is left to snapshot_dir
    # Work
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    encode_threads: Count = Field(default_factory=lambda: min(8, os.cpu_count() or 1))
    ready_timeout_s: Seconds = 600.0
    heartbeat_timeout_s: Seconds = 10.0
    step_timeout_s: Seconds = 10.0
    breaker_losses: Count = 3
    breaker_window_s: Seconds = 300.0
    drain_s: Seconds = 15.0
    # Who may come
    tokens: list[TokenConfig] = []  # none: everybody who reaches the address may do everything
    origins: list[str] = []  # pages that may open sockets, besides those that this server serves
    sockets_per_address: Count = 256
    viewers_per_session: Count = 128
    hello_timeout_s: Seconds = 5.0
    ticket_s: Seconds = 60.0
    # Traces
    record_dir: Path | None = None  # where recordings go; without it nobody can ask for one
    json_logs: bool = False
    access_log: bool = False

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.tokens and not _is_loopback(self.host):
            raise ValueError(f"expected at least one token to listen on {self.host}, got none")
        if self.snapshot_on_drain and self.snapshot_dir is None:
            raise ValueError("expected snapshot_dir with snapshot_on_drain, got none")
        return self

    @property
    def engines(self) -> list[dict[str, Any]]:
        """One entry per worker: fields of EngineChoice."""
        options = {**self.more_engine_options, self.engine: self.engine_options}
        found = []
        for entry in [self.workers] if isinstance(self.workers, str) else self.workers:
            engine, equals, devices = entry.rpartition("=")
            name = engine if equals else self.engine
            found += [
                {"name": name, "device": device, "options": options.get(name, {})}
                for device in _devices(devices)
            ]
        return found


def load_config(
    path: Path | None = None, environment: Mapping[str, str] | None = None, **flags: Any
) -> ServerConfig:
    """Settings from all sources, later ones winning; a flag that is None was not given.

    Raises:
        ConfigError: unknown or wrong keys, with every complaint.
    """
    values = _from_file(path) if path else {}
    values |= _from_environment(os.environ if environment is None else environment)
    values |= {key: value for key, value in flags.items() if value is not None}
    try:
        config = ServerConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_complaint(item) for item in error.errors())) from None
    _ = config.engines
    return config


def _devices(text: str) -> list[str]:
    kind, _, which = text.partition(":")
    if kind == "cpu" and (which or "1").isdigit() and int(which or 1) > 0:
        return ["cpu"] * int(which or 1)
    if kind == "cuda" and all(index.isdigit() for index in (which or "0").split(",")):
        return [f"cuda:{index}" for index in (which or "0").split(",")]
    raise ConfigError(f"workers: expected cpu:N or cuda:I,J, got {text!r}")


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"expected a YAML file at {path}, got {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"expected a map in {path}, got {type(values).__name__}")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """ROADLOOP_SERVER_PORT=8700 and so on; values are read as YAML."""
    values = {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            values[name.removeprefix(ENVIRONMENT_PREFIX).lower()] = yaml.safe_load(text)
    return values


def _complaint(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        model = TokenConfig if where.startswith("tokens") else ServerConfig
        return f"{where}: expected one of {', '.join(model.model_fields)}"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
