"""What one running server consists of, and whether it is ready."""

import asyncio
import contextlib
import time

from .auth import Gate
from .config import ServerConfig
from .hub import Hub
from .launcher import Launcher
from .local_workers import LocalLauncher
from .metrics import Metrics
from .pool import PoolConfig, WorkerPool
from .ray_workers import RayLauncher
from .version import VERSION


class Server:
    """Pool, hub and gate, started and stopped together."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.pool = WorkerPool(pool_config(config), launcher(config))
        self.hub = Hub(config, self.pool, Metrics())
        self.gate = Gate(
            config.tokens, config.origins, config.sockets_per_address, config.ticket_s, time.monotonic
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Spawn the workers; they get ready while the front end already answers."""
        await self.pool.start()
        self._tasks = [asyncio.create_task(self.hub.housekeeping()), asyncio.create_task(self._announce())]

    async def stop(self) -> None:
        """End sessions, then workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.hub.stop()
        await self.pool.stop()

    async def drain(self) -> None:
        """Take no more sessions; wait until the last one has ended or the time is up, then keep what is left."""
        self.hub.announce_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_s):
                while self.hub.sessions:  # noqa: ASYNC110 (sessions end in many places)
                    await asyncio.sleep(0.05)
        if self.config.snapshot_on_drain:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.drain_s):
                    await self.hub.keep_for_next_server()

    def readiness(self) -> str:
        """`ok`, or why no session would run now."""
        if self.hub.draining:
            return "draining"
        if not self.pool.default_ready:
            return "no worker is ready"
        now_s = time.monotonic()
        oldest_s = max(
            (now_s - p.began_s for w in self.pool.ready_workers for p in w.pending.values()), default=0.0
        )
        if oldest_s > self.config.step_timeout_s:
            return f"no progress for {oldest_s:.0f} s"
        return "ok"

    async def _announce(self) -> None:
        await self.pool.wait_ready()
        for worker in self.pool.ready_workers:
            if worker.info is not None:
                self.hub.metrics.build.labels(VERSION, worker.info.engine, worker.info.model).set(1)


def launcher(config: ServerConfig) -> Launcher:
    """How the settings want workers to be started. Raises RayMissingError."""
    if config.pool == "local":
        return LocalLauncher()
    return RayLauncher(config.ray_address, config.ray_cpus)


def pool_config(config: ServerConfig) -> PoolConfig:
    """The part of the settings that concerns workers."""
    return PoolConfig(
        engines=tuple(config.engines),
        sessions_per_worker=config.sessions_per_worker,
        batch_wait_ms=config.batch_wait_ms,
        encode_threads=config.encode_threads,
        ready_timeout_s=config.ready_timeout_s,
        heartbeat_timeout_s=config.heartbeat_timeout_s,
        step_timeout_s=config.step_timeout_s,
        breaker_losses=config.breaker_losses,
        breaker_window_s=config.breaker_window_s,
    )
