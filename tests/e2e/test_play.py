"""`roadloop play`: it drives by itself, who takes the wheel in the viewer gets it, and it says how it ends."""

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
OpenTab = Callable[..., Any]


class Playing:
    """A running `roadloop play`, and the lines that it has said."""

    def __init__(self, *arguments: str) -> None:
        roadloop = Path(sys.executable).with_name("roadloop")
        command = [str(roadloop), "play", "--no-browser", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._url = ""

    def url(self) -> str:
        """Where its viewer is, once a world is driven."""
        if not self._url:
            self._url = self.until("the viewer: ").split()[-1]
            self.until("drives ")
        return self._url

    def until(self, text: str, timeout_s: float = 100) -> str:
        """The next line with this text."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self.said.append(self._lines.get(timeout=left_s))
                if text in self.said[-1]:
                    return self.said[-1]
        raise AssertionError(f"expected {text!r} within {timeout_s:g} s, got {self.said}")

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit code, and what it said on stderr."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        self._reader.join(60)
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            complaints = stderr.read()
        return self.process.wait(10), complaints

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)


@pytest.fixture(scope="module")
def demo(chromium: str) -> Iterator[Playing]:
    """A demo in a world that costs nothing; at the end an interrupt stops it, and that is no failure."""
    playing = Playing("--engine", "zero", "--port", "0", "--scenario", "zero")
    try:
        yield playing
        assert playing.end() == (0, "")
    finally:
        playing.process.kill()
        playing.process.wait(10)


def test_the_demo_drives_by_itself_and_yields_the_wheel(demo: Playing, open_tab: OpenTab) -> None:
    tab = open_tab(demo.url())
    tab.until_status("watching at", 60)
    tab.until_drawn(8)
    tab.shoot("watching")
    speed = tab.value("speed")
    tab.page.keyboard.press("t")
    tab.until_status("driving")
    demo.until("somebody has taken the wheel")
    tab.shoot("driving")
    tab.page.keyboard.down("Space")
    tab.wait(lambda: tab.value("speed") < speed - 10, 20, lambda: "braking")
    tab.page.keyboard.up("Space")
    chunk = tab.value("chunk")
    tab.page.keyboard.press("t")
    demo.until("has the wheel again")
    tab.until_status("watching at")
    tab.until_drawn(8)
    assert tab.value("chunk") > chunk  # the same world
    tab.wait(lambda: tab.value("speed") > speed - 5, 30, lambda: "the demo to drive on")


def test_a_world_that_its_visitor_ends_is_followed_by_a_new_one(demo: Playing, open_tab: OpenTab) -> None:
    tab = open_tab(demo.url())
    tab.until_status("watching at", 60)
    name = "document.querySelector('#sessions [aria-current=true]')?.parentElement.dataset.session"
    first = tab.until(name)
    tab.page.evaluate(f"fetch('/v1/sessions/{first}', {{method: 'DELETE'}})")
    demo.until("lost the wheel")
    demo.until("drives zero")
    tab.wait(
        lambda: tab.page.evaluate(name) not in (None, first), 60, lambda: "the page to watch the new world"
    )
    tab.until_drawn(4)


def test_a_taken_port_is_named_with_its_owner_and_an_exit_code(demo: Playing) -> None:
    code, complaints = Playing("--engine", "zero", "--port", demo.url().rpartition(":")[2]).ended()
    assert code == 3
    assert "is taken by roadloop" in complaints
    assert "--port 0" in complaints


def test_an_unknown_policy_is_named_before_a_server_starts() -> None:
    playing = Playing("--policy", "nobody")
    code, complaints = playing.ended()
    assert code == 2
    assert "expected a policy of" in complaints
    assert playing.said == []
