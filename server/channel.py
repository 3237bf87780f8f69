"""How a worker is configured, and how its threads reach the front end."""

import json
from dataclasses import asdict, dataclass, field
from io import RawIOBase
from typing import Any

import zmq


@dataclass(frozen=True)
class WorkerConfig:
    """What the front end tells a worker at start."""

    name: str
    address: str = ""  # where the front end listens; the launcher knows
    engine: dict[str, Any] = field(default_factory=dict)  # fields of EngineChoice
    batch_wait_ms: float = 2.0  # how long a ready session waits for those that ran with it last time
    max_batch: int = 64
    encode_threads: int = 2
    heartbeat_s: float = 0.5


def config_line(config: WorkerConfig) -> bytes:
    """What the front end writes to a worker's stdin."""
    return json.dumps(asdict(config)).encode() + b"\n"


def read_config(stdin: RawIOBase) -> WorkerConfig:
    """What `config_line` wrote."""
    return WorkerConfig(**json.loads(stdin.readline()))


def connect(context: zmq.Context[Any], address: str, identity: str | None) -> zmq.Socket[Any]:
    """A socket to the front end, for the thread that asked for it only. Only a named one gets work."""
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    socket.linger = 1000
    if identity is not None:
        socket.setsockopt(zmq.IDENTITY, identity.encode())
    socket.connect(address)
    return socket


def has_message(socket: zmq.Socket[Any]) -> bool:
    """Whether `recv` would return at once. Costs half of `Socket.poll`, which makes a poller for every look."""
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN.value)
