"""The worker as a process: `python -m server.worker_process`, configured by one JSON line on stdin.

Threads: the main one runs the worker's loop; encoders answer; a heartbeat says that the process lives; a guard ends the process when its
parent is gone (stdin ends). ZeroMQ sockets are never shared: each thread has its own.
"""

import ctypes
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from io import RawIOBase
from typing import TYPE_CHECKING, Any

import zmq

from worldmodel.allocator import keep_freed_memory

from .channel import WorkerConfig, connect, read_config
from .messages import Heartbeat, Unfit, to_bytes

if TYPE_CHECKING:
    from .encoders import Encoders

PARENT_GONE = 3


def main() -> None:
    """Entry point of the process."""
    faulthandler.enable()  # SIGABRT of the watchdog leaves every thread's stack in the log
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the front end's to handle
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (unbuffered: its lock would block the exit)
    config = read_config(stdin)
    _die_with_parent(stdin)
    run(config, zmq.Context())
    logging.shutdown()
    os._exit(0)  # the daemon threads hold sockets; nothing is left to save


def run(config: WorkerConfig, context: zmq.Context[Any]) -> None:
    """Load the engine and work until told to stop."""
    keep_freed_memory()
    if ":" not in config.engine.get("name", ""):  # an engine of the user's own may want what is left out
        _leave_out_environments()
    from .worker import Worker

    try:
        worker = Worker(config, context)
    except (ValueError, TypeError, ImportError) as error:  # wrong options, no weights, no such engine
        connect(context, config.address, config.name).send(to_bytes(Unfit(config.name, str(error))))
        raise SystemExit(f"error: {error}") from None
    gc.freeze()  # a full collection that looks at torch stops everything for 130 ms
    threading.Thread(target=_beat, args=(config, context, worker.encoders), daemon=True).start()
    worker.run_forever()


def _leave_out_environments() -> None:
    """The lanes and vehicles of highway_env are wanted, not its Gymnasium environments.

    Its import registers them and with them loads pandas and matplotlib, 40 % of what a worker loads, unless it finds the first one registered.
    """
    import gymnasium

    if "highway_env" not in sys.modules:
        gymnasium.register("highway-v0", "highway_env.envs.highway_env:HighwayEnv")


def _beat(config: WorkerConfig, context: zmq.Context[Any], encoders: "Encoders") -> None:
    socket = connect(context, config.address, None)
    try:
        while True:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            socket.send(to_bytes(Heartbeat(config.name, encoders.sessions, memory)))
            time.sleep(config.heartbeat_s)
    except zmq.ZMQError:
        socket.close(linger=0)  # the context ends: so does the process


def _die_with_parent(stdin: RawIOBase) -> None:
    """Two ways, so that not even a stuck interpreter outlives the front end: the kernel's signal, and the end of stdin."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def guard() -> None:
        stdin.read()
        os._exit(PARENT_GONE)

    threading.Thread(target=guard, daemon=True).start()


if __name__ == "__main__":
    main()
