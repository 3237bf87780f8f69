"""Workers as named actors of a Ray cluster: the pool over several machines. Needs the extra `ray`.

The front end is Ray's driver: when it ends, however that happens, Ray ends its actors.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import threading
from dataclasses import replace
from typing import Any

from .channel import WorkerConfig
from .launcher import Receive, WorkerLostError

log = logging.getLogger("roadloop.pool")


class RayMissingError(Exception):
    """The extra `ray` is not installed."""


class RayLauncher:
    """Starts workers as actors, spread over the cluster's machines.

    Args:
        address: of the cluster; None is the one of RAY_ADDRESS, or else one on this machine alone.
        cpus: cores that each worker reserves, and maths threads that it uses.
    """

    def __init__(self, address: str | None = None, cpus: float = 1.0) -> None:
        try:
            import ray
        except ImportError:
            raise RayMissingError(
                "expected ray to be installed for the pool 'ray', got none: pip install 'roadloop[ray]'"
            ) from None
        self._ray: Any = ray
        self._address, self._cpus = address, cpus
        self.namespace = f"roadloop-{secrets.token_hex(4)}"  # two servers may share a cluster

    async def open(self, receive: Receive) -> None:
        """Join the cluster."""
        self._receive = receive
        # In a thread: from the main one Ray would make SIGTERM end the process, without a drain.
        await asyncio.to_thread(
            self._ray.init,
            address=self._address,
            namespace=self.namespace,
            logging_level=logging.WARNING,
            include_dashboard=None if self._address else False,
        )
        _take_back_sigterm()

    async def launch(self, config: WorkerConfig) -> "RayWorker":
        """Ask for an actor; it starts when a machine has the cores or the GPU."""
        from .ray_actor import WorkerActor

        engine, options = dict(config.engine), {"num_cpus": self._cpus}
        if engine.get("device", "cpu").startswith("cuda"):
            engine["device"], options["num_gpus"] = "cuda:0", 1  # Ray shows the actor its own GPU only
        actor = self._ray.remote(WorkerActor).options(
            name=config.name, scheduling_strategy="SPREAD", max_restarts=0, **options
        )
        try:
            handle = actor.remote(replace(config, engine=engine))
        except (self._ray.exceptions.RayError, ValueError) as error:
            raise WorkerLostError(str(error)) from None
        return RayWorker(self._ray, config.name, handle, self._receive)

    async def close(self) -> None:
        """Leave the cluster."""
        await asyncio.to_thread(self._ray.shutdown)


class RayWorker:
    """A worker in an actor."""

    def __init__(self, ray: Any, name: str, actor: Any, receive: Receive) -> None:
        self._ray, self._name, self._actor = ray, name, actor
        self._end = asyncio.create_task(self._forward(receive))

    async def send(self, data: bytes) -> None:
        """See `WorkerHandle.send`."""
        try:
            await self._actor.send.remote(data)
        except self._ray.exceptions.RayError:
            raise WorkerLostError(self._name) from None

    async def ended(self) -> str:
        """`actor ...`, in Ray's words."""
        return await asyncio.shield(self._end)

    def kill(self) -> None:
        """End the actor's process."""
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor, no_restart=True)

    async def stop(self, timeout_s: float) -> None:
        """See `WorkerHandle.stop`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.ended()
        except TimeoutError:
            self.kill()
            await self.ended()

    async def _forward(self, receive: Receive) -> str:
        """Pass the worker's messages on until it ends."""
        try:
            while True:
                for data in await self._actor.receive.remote():
                    receive(data)
        except self._ray.exceptions.RayError as error:
            self.kill()  # it may live where we cannot reach it
            return f"actor ended: {type(error).__name__}"


def _take_back_sigterm() -> None:
    """Ray's native part catches SIGTERM too, and aborts the process three seconds later: a drain takes longer."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
