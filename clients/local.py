"""A server of one's own: started as a child process on a free port, ended with the caller."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from .errors import RoadloopError


@contextlib.contextmanager
def local_server(engine: str = "reference", *arguments: str, ready_timeout_s: float = 120.0) -> Iterator[str]:
    """Start a server on this machine and yield its URL once it is ready.

    Args:
        engine: `reference`, `worldmodel`, `zero`, ...
        arguments: further arguments of `roadloop serve`.
        ready_timeout_s: longest wait for its workers.

    Raises:
        RoadloopError: it ended, or was not ready in time; its own messages are on stderr.
    """
    command = [sys.executable, "-m", "server", "--port", "0", "--engine", engine, "--while-stdin", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http://" not in line:
                raise RoadloopError(f"expected a server, got exit code {process.wait(10)}")
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
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RoadloopError(f"expected a server, got exit code {process.returncode}")
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            opener.open(f"{url}/readyz", timeout=5),
        ):
            return
        time.sleep(0.05)
    raise RoadloopError(f"expected a ready server within {timeout_s:g} s")
