"""The browser and its server: many tabs, reloads, restarts, tokens, stalls, full servers, and what the page loads."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from clients.local import local_server
from server.auth import new_token

pytestmark = pytest.mark.slow
WEB = Path(__file__).parents[2] / "clients" / "web"
OpenTab = Callable[..., Any]


def test_the_assets_are_small_and_come_from_this_server_alone(zero_server: str, open_tab: OpenTab) -> None:
    tab = open_tab(zero_server)
    tab.drive()
    tab.page.keyboard.press("w")
    tab.until_drawn(4)
    here = urlsplit(zero_server).netloc
    assert tab.requests
    assert {urlsplit(url).netloc for url in tab.requests if not url.startswith("blob:")} == {here}
    assert sum(path.stat().st_size for path in WEB.rglob("*") if path.is_file()) < 300_000
    # Under 1 s on an idle machine; what is asserted leaves room for a busy one.
    assert tab.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 3000


def test_files_carry_a_strict_policy_and_are_not_sent_twice(zero_server: str, chromium: str) -> None:
    with httpx.Client(base_url=zero_server) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        script = client.get("/web/main.js")
        assert script.headers["content-type"].split(";")[0] in ("text/javascript", "application/javascript")
        assert script.headers["cache-control"] == "no-cache"
        again = client.get("/web/main.js", headers={"If-None-Match": script.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for path in (
            "/web/missing.js",
            "/web/../../pyproject.toml",
            "/web/%2e%2e/%2e%2e/pyproject.toml",
            "/web/",
        ):
            assert client.get(path).status_code == 404, path


def test_three_tabs_drive_and_watch_at_once(zero_server: str, open_tab: OpenTab) -> None:
    first, second = open_tab(zero_server), open_tab(zero_server)
    first.drive(rig="front1")
    first.page.keyboard.down("w")
    first.until_drawn(4)
    second.drive(rig="front1")
    second.page.keyboard.down("w")
    session = first.page.evaluate(
        "document.querySelector('#sessions [aria-current=true]').parentElement.dataset.session"
    )
    third = open_tab(f"{zero_server}/#watch={session}")
    third.until("document.querySelector('.tile canvas')?.dataset.drawn > 0")
    for tab in (first, second, third):
        tab.until_drawn(12)
    third.until_status("watching at")
    third.until("document.querySelectorAll('#sessions li').length >= 2")
    third.page.click("#copy")
    third.until_status("driving key")
    third.page.keyboard.down("s")
    speed = first.value("speed")
    third.wait(lambda: third.value("speed") < speed - 5, 10, lambda: "the copy to brake")
    first.until_drawn(4)
    assert first.value("speed") >= speed - 1  # the original does not notice


def test_a_reload_goes_on_with_the_same_session(zero_server: str, open_tab: OpenTab) -> None:
    tab = open_tab(zero_server)
    tab.drive()
    tab.page.keyboard.press("w")
    tab.until_drawn(12)
    tab.page.keyboard.press("p")
    chunk = tab.value("chunk")
    tab.page.reload()
    tab.until_status("driving key")
    tab.page.keyboard.press("w")
    tab.wait(lambda: tab.value("chunk") > chunk, 10, lambda: "a later chunk of the same world")


def test_a_session_that_another_window_took_can_be_taken_back(zero_server: str, open_tab: OpenTab) -> None:
    first = open_tab(zero_server)
    first.drive()
    first.page.keyboard.press("w")
    first.until_drawn(4)
    first.page.keyboard.press("p")
    memory = first.page.evaluate("sessionStorage.getItem('roadloop.driving')")
    second = open_tab(
        f"{zero_server}/version"
    )  # of the same origin, to plant what a duplicated tab would have
    second.refused = True  # that address has no icon
    second.page.evaluate("memory => sessionStorage.setItem('roadloop.driving', memory)", memory)
    second.page.goto(zero_server)
    second.until_status("driving key")
    first.until(
        "document.querySelector('#card').textContent.includes('Another window drives this session now')"
    )
    first.shoot("taken")
    first.page.get_by_role("button", name="Take it back").click()
    first.until_status("driving key")
    first.page.keyboard.down("w")
    first.until_drawn(8)
    second.page.get_by_role("button", name="Watch it").click()
    second.until_drawn(8)


def test_a_restarted_server_is_found_again_and_the_scenario_begins_again(
    chromium: str, open_tab: OpenTab
) -> None:
    with local_server("zero") as url:
        tab = open_tab(url)
        tab.drive()
        tab.page.keyboard.down("w")
        tab.until_drawn(8)
        tab.refused = True
    tab.page.keyboard.up("w")
    tab.until("document.querySelector('#card').textContent.includes('does not answer')")
    with local_server("zero", "--port", str(urlsplit(url).port)):
        tab.until_status("driving key", 30)
        tab.page.keyboard.down("w")
        tab.until_drawn(8)
        assert tab.page.is_hidden("#card")


def test_a_wrong_token_is_named_and_the_right_one_lets_in(
    chromium: str, tmp_path: Path, open_tab: OpenTab
) -> None:
    token, sha256 = new_token()
    config = tmp_path / "server.yaml"
    config.write_text(
        yaml.safe_dump({"tokens": [{"name": "me", "sha256": sha256, "scopes": ["drive", "view"]}]})
    )
    with local_server("zero", "--config", str(config)) as url:
        tab = open_tab(url)
        tab.refused = True
        tab.until_status("a token is needed")
        tab.page.fill("#card input", "rl_wrong")
        tab.page.keyboard.press("Enter")
        tab.until_status("wrong token")
        assert "not valid" in tab.page.inner_text("#card")
        tab.shoot("wrong")
        tab.page.fill("#card input", token)
        tab.page.click("#card button")
        tab.until_status("ready")
        tab.drive()
        tab.page.keyboard.down("w")
        tab.until_drawn(8)
        assert not any(token in request for request in tab.requests)  # never in an address


def test_a_full_server_says_so_and_lets_in_when_a_slot_is_free(chromium: str, open_tab: OpenTab) -> None:
    with local_server("zero", "--sessions-per-worker", "1") as url:
        first, second = open_tab(url), open_tab(url)
        first.drive()
        second.refused = True
        second.page.click("#drive")
        second.until("document.querySelector('#card').textContent.includes('The server is full')")
        second.shoot("full")
        first.page.click("#leave")
        second.until_status("driving key")


def test_a_stalled_network_is_noticed_and_forgiven(zero_server: str, open_tab: OpenTab) -> None:
    with Relay(urlsplit(zero_server).port or 0) as relay:
        tab = open_tab(f"http://127.0.0.1:{relay.port}")
        tab.drive()
        tab.page.keyboard.down("w")
        tab.until_drawn(8)
        relay.flowing.clear()
        tab.until_status("no answer for")
        tab.shoot("stalled")
        relay.flowing.set()
        tab.until_status("driving at")
        tab.until_drawn(8)


class Relay:
    """A TCP relay that can stop passing bytes on without closing anything."""

    def __init__(self, target: int) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> "Relay":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.flowing.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pump, args=pair, daemon=True))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
