"""Which policy: the spec strings and files that name one, and the registry of bundled ones.

| spec | policy |
|---|---|
| `lane_keeper`, `random?scale=0.3` | a bundled or installed one by name, with keyword arguments |
| `package.module:Class?speed=5` | any class with `reset` and `act` |
| `actions.yaml`, `actions.csv`, `actions.parquet` | a schedule, or recorded actions |
| `policy.yaml` | `{policy: SPEC, name: ..., with: {...}}`: a spec with a name and arguments of any type |
| `ws://host:8000` | a policy server (openpi's protocol) |

Values of arguments are read as YAML: `true`, `0.5`, `[a, b]`, `text`. Installed packages add names through the entry-point group
`roadloop.policies`: each entry is a class or a function that makes a policy.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import RoadloopError
from .policy import Policy

GROUP = "roadloop.policies"
BUNDLED = {
    "idle": "clients.policies.simple:Idle",
    "stop": "clients.policies.simple:Stop",
    "constant": "clients.policies.simple:Constant",
    "constant_speed": "clients.policies.simple:ConstantSpeed",
    "random": "clients.policies.simple:Random",
    "lane_keeper": "clients.policies.lane_keeper:LaneKeeper",
    "vision": "clients.policies.vision:Vision",
    "schedule": "clients.policies.scripted:Schedule",
    "replay": "clients.policies.scripted:Replay",
    "remote": "clients.policies.remote:RemotePolicy",
}


class PolicySpecError(RoadloopError, ValueError):
    """A spec that names no policy, or one that cannot be made. The message says what was expected."""


@dataclass(frozen=True)
class PolicySpec:
    """A policy that can be made any number of times: once per slot of a harness.

    `name` is what reports call it; `target` and `arguments` decide what it is.
    """

    name: str
    target: str  # module:attribute
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Policy:
        """A new object, which drives one world at a time.

        Raises:
            PolicySpecError: it cannot be imported or made, or lacks `reset` or `act`.
        """
        maker = _import(self.target)
        try:
            policy = maker(**self.arguments)
        except (TypeError, ValueError, OSError, ImportError) as error:
            raise PolicySpecError(f"{self.name}: expected a policy from {self.target}: {error}") from error
        if not isinstance(policy, Policy):
            raise PolicySpecError(
                f"{self.name}: expected an object with reset and act, got {type(policy).__name__}"
            )
        return policy

    def check(self) -> None:
        """Import it, without making one. Raises PolicySpecError where that fails."""
        _import(self.target)

    def files(self) -> dict[str, Path]:
        """Files that decide what it does, by name: those that its arguments name, and those that its class says it reads, where it has a function
        `files` of the same arguments.

        Raises:
            PolicySpecError: it cannot be imported, or not be made of these arguments.
        """
        named = [Path(text) for text in self.arguments.values() if isinstance(text, str) and len(text) < 4096]
        reads: Callable[..., list[Path]] = getattr(_import(self.target), "files", lambda **_: [])
        try:
            own = reads(**self.arguments)
        except (TypeError, ValueError) as error:
            raise PolicySpecError(f"{self.name}: expected a policy from {self.target}: {error}") from error
        return {str(path): path for path in named if path.is_file()} | {path.name: path for path in own}

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what a results folder remembers."""
        return {"name": self.name, "target": self.target, "arguments": dict(self.arguments)}


class _PolicyFile(BaseModel):
    """`policy.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str
    name: str | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")


def load_policy(spec: "str | PolicySpec") -> PolicySpec:
    """Read a spec. Nothing is imported yet; `PolicySpec.make` does that.

    Raises:
        PolicySpecError: unknown name, missing file, unknown keys.
    """
    if isinstance(spec, PolicySpec):
        return spec
    if "://" in spec:
        return _remote(spec)
    text, _, query = spec.partition("?")
    arguments = _arguments(query, spec)
    if text.endswith((".csv", ".parquet")):
        return PolicySpec(Path(text).stem, BUNDLED["replay"], {"path": _file(text), **arguments})
    if text.endswith((".yaml", ".yml")):
        return _from_file(text, arguments)
    if ":" in text:
        return PolicySpec(spec, text, arguments)
    if (target := _registry().get(text)) is None:
        raise PolicySpecError(
            f"expected a policy of {', '.join(policy_names())}, a module:Class, a file or ws://host:port, got {text!r}"
        )
    return PolicySpec(spec, target, arguments)


def policy_names() -> tuple[str, ...]:
    """Policies that are known by name, in alphabetical order."""
    return tuple(sorted(_registry()))


def _registry() -> dict[str, str]:
    """Name -> module:attribute; installed ones cannot replace bundled ones."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)} | BUNDLED


def _import(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    try:
        maker: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise PolicySpecError(f"expected a policy at module:attribute, got {target!r}: {error}") from error
    return maker


def _remote(spec: str) -> PolicySpec:
    parts = urlsplit(spec)
    if parts.scheme not in ("ws", "wss"):
        raise PolicySpecError(f"expected a policy server at ws://host:port or wss://host:port, got {spec!r}")
    url = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return PolicySpec(url, BUNDLED["remote"], {"url": url, **_arguments(parts.query, spec)})


def _from_file(text: str, arguments: Mapping[str, Any]) -> PolicySpec:
    """A schedule of actions, or a spec with a name and arguments; told apart by their keys."""
    path = _file(text)
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicySpecError(f"{text}: expected YAML: {error}") from None
    if not isinstance(values, dict):
        raise PolicySpecError(f"{text}: expected a map with policy or steps, got {type(values).__name__}")
    if "policy" not in values:
        return PolicySpec(Path(text).stem, BUNDLED["schedule"], {"path": path, **arguments})
    try:
        chosen = _PolicyFile.model_validate(values)
    except ValidationError as error:
        raise PolicySpecError(f"{text}: {_first(error)}") from None
    inner = load_policy(chosen.policy)
    return PolicySpec(
        chosen.name or Path(text).stem, inner.target, {**inner.arguments, **chosen.with_, **arguments}
    )


def _file(text: str) -> str:
    path = Path(text).expanduser()
    if not path.is_file():
        raise PolicySpecError(f"expected a policy file, got {text!r}, which does not exist")
    return str(path)


def _arguments(query: str, spec: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        return {key: yaml.safe_load(value) for key, value in pairs}
    except (ValueError, yaml.YAMLError):
        raise PolicySpecError(f"expected arguments as key=value&key=value after '?', got {spec!r}") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"expected one of policy, name, with, got {where!r}"
    return f"{where}: {first['msg']}"
