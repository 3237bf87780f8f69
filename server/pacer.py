"""Real time: chunks run when they are due, with the driver's newest action or a held one."""

import asyncio
import contextlib
import time

from clients.protocol import ErrorCode, ProtocolError, StepItem, Stepped

from .background import Background
from .chunks import Chunks
from .live import LiveSession
from .metrics import Metrics
from .staging import Phase, Staged
from .turns import Turns


class Pacer:
    """One task per session in realtime mode."""

    def __init__(self, turns: Turns, chunks: Chunks, background: Background, metrics: Metrics) -> None:
        self._turns, self._chunks, self._background, self._metrics = turns, chunks, background, metrics

    def start(self, live: LiveSession) -> None:
        """The session has a new world: pace it if its mode is realtime."""
        live.fail_waiting(ProtocolError(ErrorCode.BAD_STATE, "the session was reset while the action waited"))
        if live.pacer is not None:
            live.pacer.cancel()
        live.pacer = self._background.spawn(self._pace(live)) if live.state.mode == "realtime" else None

    async def step(self, live: LiveSession, item: StepItem) -> Stepped:
        """Offer the action and wait for the chunk that it drives."""
        await self._turns.until_recovered(live)
        stored = live.state.offer_step(item, time.monotonic())
        if stored is not None:
            return stored.reply
        if live.waiting is None or live.waiting.done():
            live.waiting = asyncio.get_running_loop().create_future()
        return await asyncio.shield(live.waiting)

    async def _pace(self, live: LiveSession) -> None:
        while live.state.mode == "realtime" and live.state.phase is not Phase.CLOSED:
            due_s, now_s = live.state.due_s, time.monotonic()
            if due_s is None or due_s > now_s:
                await asyncio.sleep(0.01 if due_s is None else min(due_s - now_s, 0.05))
                continue
            with contextlib.suppress(ProtocolError):
                async with self._turns.turn(live):
                    staged = live.state.begin_due(time.monotonic())
                    if staged is not None:
                        await self._run_due(live, staged)

    async def _run_due(self, live: LiveSession, staged: Staged) -> None:
        answers = staged.request is not None
        try:
            reply = await self._chunks.run(live, staged)
        except ProtocolError as error:
            if answers:
                live.fail_waiting(error)
            return
        if staged.request is None:
            self._metrics.held.inc()
        else:
            self._metrics.action_age.observe(staged.action_age_ms / 1e3)
        if live.waiting is not None and not live.waiting.done() and (answers or live.ended):
            live.waiting.set_result(reply)
