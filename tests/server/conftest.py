"""A server of one's own for a test, and plain HTTP to it."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: Any
    headers: dict[str, str]


class Running(NamedTuple):
    """A server process that this test owns."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return [
            int(pid)
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


def _http(url: str, path: str, method: str = "GET", body: Any = None, token: str | None = None) -> Answer:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            text, status, found = response.read(), response.status, response.headers
    except urllib.error.HTTPError as error:
        with error:
            text, status, found = error.read(), error.code, error.headers
    try:
        parsed = json.loads(text) if text else None
    except ValueError:
        parsed = text.decode()
    return Answer(status, parsed, dict(found))


@pytest.fixture(scope="session")
def http() -> Callable[..., Answer]:
    return _http


@contextlib.contextmanager
def _run(*arguments: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "server", "--port", "0", "--engine", "zero", "--while-stdin", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = "http://" + process.stdout.readline().split("http://")[1].strip()
            deadline_s = time.monotonic() + 60
            while _http(url, "/readyz").status != 200:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            yield Running(url, process)
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="session")
def run_server() -> Callable[..., contextlib.AbstractContextManager[Running]]:
    return _run
