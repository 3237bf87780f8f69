"""A server of one's own: started as a child process on a free port, ended with the caller."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import ConnectionLostError, RoadloopError
from .protocol import ProtocolError
from .rest import call


class ServerExitError(RoadloopError):
    """The server ended before it was ready; `exit_code` is that of `roadloop serve`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"expected a server, got exit code {exit_code}")
        self.exit_code = exit_code


@contextlib.contextmanager
def local_server(
    engine: str = "reference", *arguments: str, ready_timeout_s: float = 120.0, log: Path | None = None
) -> Iterator[str]:
    """Start a server on this machine and yield its URL once it is ready.

    Args:
        engine: `reference`, `worldmodel`, `zero`, ...
        arguments: further arguments of `roadloop serve`.
        ready_timeout_s: longest wait for its workers.
        log: file that gets its messages; without one they go to this process's stderr.

    Raises:
        ServerExitError: it ended.
        RoadloopError: it was not ready in time.
    """
    command = [sys.executable, "-m", "server", "--port", "0", "--engine", engine, "--while-stdin", *arguments]
    with contextlib.ExitStack() as closing:
        messages = closing.enter_context(log.open("w")) if log else None
        process = closing.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True
            )
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http://" not in line:
                raise ServerExitError(process.wait(10))
            url = "http://" + line.split("http://")[1].strip()
            _wait_ready(url, process, ready_timeout_s)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)  # drain
            process.send_signal(signal.SIGINT)  # but not for long
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(url: str, process: "subprocess.Popen[str]", timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise ServerExitError(process.returncode)
        with contextlib.suppress(ProtocolError, ConnectionLostError):
            call(url, "/readyz", timeout_s=5.0)
            return
        time.sleep(0.05)
    raise RoadloopError(f"expected a ready server within {timeout_s:g} s")
