"""One thing at a time per session: whose turn it is, and the work that an operation gives to the worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from clients.protocol import ErrorCode, ProtocolError

from .live import LiveSession
from .pool import WorkerLostError, WorkerPool
from .staging import Phase, Staged

RECOVERY_TIMEOUT_S = 120.0


class Turns:
    """Operations take turns on a session; each stages, works, and commits or aborts."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def turn(self, live: LiveSession) -> AsyncIterator[None]:
        """This operation's turn on the session; waits for a recovery that is under way."""
        await self.until_recovered(live)
        async with live.lock:
            if live.state.phase is Phase.CLOSED:
                raise live.error or ProtocolError(ErrorCode.UNKNOWN_SESSION, "the session has ended")
            yield

    async def until_recovered(self, live: LiveSession) -> None:
        """Return at once unless the session's worker was lost."""
        if live.state.phase is Phase.RECOVERING:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                    await live.recovered.wait()

    async def work(self, live: LiveSession, staged: Staged, kind: type[Any], **values: Any) -> Any:
        """Work of an operation that has begun; if it fails, everything is as it was."""
        try:
            return await self._pool.work(live.worker, kind, session=live.name, **values)
        except WorkerLostError:
            gone = ProtocolError(
                ErrorCode.WORKER_LOST, "the worker ended before the session began", fatal=True
            )
            raise live.error or gone from None
        except BaseException:
            live.state.abort(staged)
            raise
