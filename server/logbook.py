"""What a session's recording gets to hold: the records that `replay` reads."""

import secrets
import time
from pathlib import Path

from clients.protocol import StepItem, Stepped

from .live import LiveSession
from .messages import Chunk, Ready
from .recording import Recorder, frame_digest
from .snapshots import Snapshot


def record_reset(live: LiveSession, chunk: Chunk, folder: str | Path | None, info: Ready) -> None:
    """A reset ends the recording that there was, and begins another one if it asks for that."""
    assert live.setup is not None
    if live.recorder is not None:
        live.recorder.close()
        live.recorder = None
    if not live.setup.record:
        return
    assert folder is not None
    header = {"engine": info.engine, "model_digest": info.model_digest, "determinism": info.determinism}
    path = Path(folder) / f"{time.strftime('%Y%m%d-%H%M%S')}-{live.name}-{secrets.token_hex(2)}.rlrec"
    live.recorder = Recorder(path, header | {"encoding": live.encoding, "session": live.name})
    setup = live.setup.model_dump(exclude={"id", "session", "type"})
    live.recorder.write({"kind": "reset", **setup, "frame_digest": frame_digest(chunk.frames)})


def record_chunk(live: LiveSession, item: StepItem, reply: Stepped) -> None:
    """A committed chunk: what drove it and what came out."""
    if live.recorder is None:
        return
    record = {"kind": "chunk", "chunk": reply.chunk, "space": item.space, "actions": item.actions}
    record |= {"frame_digest": frame_digest(reply.frames), "reward": reply.reward, "outcome": reply.outcome}
    live.recorder.write(record | {"ego": reply.ego, "cache": reply.cache})


def record_tier(live: LiveSession, tier: str) -> None:
    """Another cache tier from the next chunk on."""
    if live.recorder is not None:
        live.recorder.write({"kind": "tier", "tier": tier})


def record_restore(live: LiveSession, snapshot: Snapshot) -> None:
    """The session goes on from a snapshot."""
    if live.recorder is not None:
        live.recorder.write({"kind": "restore", "digest": snapshot.digest, "next_chunk": snapshot.next_chunk})
