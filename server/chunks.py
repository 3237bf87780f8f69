"""Makes chunks: from a staged step through the worker to the driver's reply, viewers, recording and metrics."""

import time

from clients.protocol import StepItem, Stepped

from .keeper import Keeper
from .live import LiveSession
from .messages import Chunk, StepWork
from .metrics import Metrics
from .staging import Staged, Stored
from .turns import Turns

STAGES = frozenset(
    ["queue", "scene", "condition", "denoise", "decode", "render", "encode", "engine", "kv_update", "flush"]
)


class Chunks:
    """Runs steps of sessions."""

    def __init__(self, turns: Turns, keeper: Keeper, metrics: Metrics) -> None:
        self._turns, self._keeper, self._metrics = turns, keeper, metrics
        self._stage_seconds = {stage: metrics.stage_seconds.labels(stage) for stage in STAGES}

    async def step(self, live: LiveSession, item: StepItem) -> Stepped:
        """In lockstep: the next chunk now, or the stored answer to a repeated request."""
        async with self._turns.turn(live):
            got = live.state.begin_step(item)
            return got.reply if isinstance(got, Stored) else await self.run(live, got)

    async def run(self, live: LiveSession, staged: Staged) -> Stepped:
        """Run a staged chunk and commit it, in the caller's turn."""
        item = staged.item
        assert item is not None
        values = {"space": item.space, "actions": item.actions, "wait_ms": item.deadline_ms}
        values |= live.audience.video_wish([camera["name"] for camera in live.cameras])
        values |= {"newest": None if live.audience.sees_pictures else live.newest_frames}
        chunk = await self._turns.work(live, staged, StepWork, sent_s=time.monotonic(), **values)
        reply = live.stepped(staged, chunk)
        live.state.commit_step(staged, reply)
        live.ended = reply.terminated or reply.truncated
        if live.recorder is not None:
            live.recorder.chunk(item, reply)
        self.publish(live, reply.chunk, chunk)
        self._keeper.take_if_due(live)
        return reply

    def publish(self, live: LiveSession, index: int, chunk: Chunk) -> None:
        """To viewers and metrics; the opening has index -1."""
        live.shown = index, chunk
        if len(live.audience):
            live.audience.publish(live.frames(index, chunk))
        images = [image for camera in chunk.frames.values() for image in camera]
        self._metrics.frames.inc(len(images))
        self._metrics.frame_bytes.labels(live.encoding).inc(sum(map(len, images)))
        for stage, ms in chunk.timing.items():
            if stage in STAGES:
                self._stage_seconds[stage].observe(ms / 1e3)
        if index >= 0:
            self._metrics.chunks.inc()
            self._metrics.batch_size.observe(chunk.batch)
