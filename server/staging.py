"""What a session's operations are made of: phases, which of them allow what, and a step on its way."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from clients.protocol import StepItem, Stepped


class Phase(StrEnum):
    """Where a session stands."""

    NEW = "new"  # no world yet
    READY = "ready"  # at a chunk boundary
    BUSY = "busy"  # an operation is with the worker
    ENDED = "ended"  # the episode is over: reset or restore
    RECOVERING = "recovering"  # its worker was lost; it is being restored from a snapshot
    CLOSED = "closed"


# Which phases allow which operation.
ALLOWED: Mapping[str, frozenset[Phase]] = {
    "reset": frozenset({Phase.NEW, Phase.READY, Phase.ENDED}),
    "step": frozenset({Phase.READY}),
    "snapshot": frozenset({Phase.READY, Phase.ENDED}),
    "restore": frozenset({Phase.NEW, Phase.READY, Phase.ENDED}),
    "fork": frozenset({Phase.READY, Phase.ENDED}),
    "set_tier": frozenset({Phase.READY, Phase.ENDED}),
    "map": frozenset({Phase.READY, Phase.ENDED}),
}


@dataclass(frozen=True)
class SessionRules:
    """What the engine and the server's limits say about every session."""

    frames_per_chunk: int
    chunk_s: float
    action_widths: Mapping[str, int]  # columns of a row, by action space
    lease_s: float = 30.0


@dataclass(frozen=True, eq=False)
class Staged:
    """An operation that has begun and is neither committed nor aborted."""

    operation: str
    before: Phase
    item: StepItem | None = None  # of a step: the chunk to run and its actions
    request: tuple[int, bytes] | None = (
        None  # of a step: the driver's chunk and digest; None for a held chunk
    )
    action_age_ms: float = 0.0


@dataclass(frozen=True)
class Stored:
    """The answer that a repeated request gets again."""

    chunk: int
    digest: bytes
    reply: Stepped


def action_digest(item: StepItem) -> bytes:
    """What makes two step requests the same: the action space and the action's bytes."""
    header = f"{item.space}{item.actions.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(item.actions).tobytes()).digest()
