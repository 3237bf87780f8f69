"""A session's recording: everything that `replay` needs to make the session again, as it happens.

What a worker's snapshot holds is written only where the file itself does not lead there: a restore of a snapshot that this
recording knows names it, and a fork names the recording that it branched from.
"""

import secrets
import time
from pathlib import Path
from typing import Any

from clients.protocol import Reset, StepItem, Stepped

from .messages import Chunk, Ready
from .recording import Recorder, frame_digest
from .snapshots import Snapshot


class Logbook:
    """One file, from a session's reset (or restore, or fork) to its end or next reset.

    Args:
        folder: where recordings go.
        session: its name.
        info: the engine.
        engine: how the engine is built: the fields of EngineChoice.
        encoding: of the frames.
    """

    def __init__(
        self, folder: str | Path, session: str, info: Ready, engine: dict[str, Any], encoding: str
    ) -> None:
        path = Path(folder) / f"{time.strftime('%Y%m%d-%H%M%S')}-{session}-{secrets.token_hex(2)}.rlrec"
        header: dict[str, Any] = {
            "engine": info.engine,
            "model_digest": info.model_digest,
            "determinism": info.determinism,
        }
        header |= {"choice": engine, "encoding": encoding, "session": session}
        self._recorder = Recorder(path, header)
        self._records = 0  # after the header
        self._known: set[str] = set()  # handles of snapshots that were taken on the way

    def reset(self, setup: Reset, chunk: Chunk) -> None:
        """A world begins."""
        values = setup.model_dump(exclude={"id", "session", "type"})
        self._write("reset", **values, frame_digest=frame_digest(chunk.frames))

    def chunk(self, item: StepItem, reply: Stepped) -> None:
        """A committed chunk: what drove it and what came out."""
        self._write(
            "chunk",
            chunk=reply.chunk,
            space=item.space,
            actions=item.actions,
            frame_digest=frame_digest(reply.frames),
            reward=reply.reward,
            outcome=reply.outcome,
            ego=reply.ego,
            cache=reply.cache,
        )

    def tier(self, tier: str) -> None:
        """Another cache tier from the next chunk on."""
        self._write("tier", tier=tier)

    def snapshot(self, snapshot: Snapshot) -> None:
        """The state here was kept: a later restore may come back to this place."""
        self._known.add(snapshot.handle)
        self._write("snapshot", **_named(snapshot))

    def restore(self, snapshot: Snapshot) -> None:
        """The session goes on from a snapshot, whoever took it."""
        setup, cameras, encoding = snapshot.setup
        values = {**_named(snapshot), "cameras": cameras, "encoding": encoding}
        values |= {"newest_frames": setup.newest_frames}
        if snapshot.handle not in self._known:
            values |= {"state": snapshot.state, "seen": _last_frame(snapshot.observation)}
        self._write("restore", **values)

    def branch(self, other: "Logbook") -> None:
        """The session is a copy of another one, recorded there up to here."""
        self._write("fork", of=other._recorder.path.name, records=other._records)

    def close(self) -> None:
        """Finish the file."""
        self._recorder.close()

    def _write(self, kind: str, **values: Any) -> None:
        self._recorder.write({"kind": kind, **values})
        self._records += 1


def _named(snapshot: Snapshot) -> dict[str, Any]:
    return {"handle": snapshot.handle, "digest": snapshot.digest, "next_chunk": snapshot.next_chunk}


def _last_frame(observation: dict[str, Any]) -> dict[str, Any]:
    """What the snapshot's driver saw at its very end."""
    frames = {name: images[-1:] for name, images in observation["frames"].items()}
    metrics = {
        name: values if name == "lights" else values[-1:] for name, values in observation["metrics"].items()
    }
    return {**observation, "frames": frames, "ego": observation["ego"][-1:], "metrics": metrics}
