"""A headless Chromium and servers for the viewer's tests. Without a browser or its driver the tests skip and say why."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.local import local_server

HERE = Path(__file__).parent
ARTEFACTS = os.environ.get("ROADLOOP_SCREENSHOTS")  # a folder that keeps what the tests saw
LAPTOP = {"width": 1440, "height": 860}


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip(
            "expected a Chromium on the PATH for the viewer's tests, found none (Debian: apt install chromium)"
        )
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """One browser for a file of tests; each opens its own pages.

    Not for the whole run: while it lives, Playwright keeps an event loop running in this thread, and asynchronous tests
    could not run theirs.
    """
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="expected the Python package playwright for the viewer's tests"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve_test_engine() -> Callable[..., Any]:
    """Serves an engine of a module of this folder, given as module:callable."""

    @contextlib.contextmanager
    def serve(engine: str, *arguments: str) -> Iterator[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
            with local_server(engine, *arguments) as url:
                yield url

    return serve


@pytest.fixture(scope="session")
def zero_server(chromium: str) -> Iterator[str]:
    """A server whose worlds cost nothing, for all tests that do not harm it."""
    with local_server("zero") as url:
        yield url


class Tab:
    """A page of the viewer, with waits that end and complaints that are kept."""

    def __init__(self, context: Any, url: str, name: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.refused = (
            False  # the browser itself notes requests that are refused or cut: this test means them to be
        )
        self.name = name
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def drive(self, **choices: str) -> None:
        """Choose, press Drive, and wait for the world."""
        self.until("document.querySelector('[name=scenario]').options.length > 0")
        for name, value in choices.items():
            self.page.select_option(f"[name={name}]", value)
        self.page.click("#drive")
        self.until_status("driving key", 60)

    def status(self) -> str:
        return str(self.page.inner_text("#status"))

    def until_status(self, text: str, timeout_s: float = 20) -> None:
        self.wait(lambda: text in self.status(), timeout_s, lambda: f"status {text!r}, got {self.status()!r}")

    def until(self, expression: str, timeout_s: float = 20) -> Any:
        """Wait for a truthy value of a JavaScript expression. (The page's policy forbids the driver's own wait.)"""
        return self.wait(lambda: self.page.evaluate(expression), timeout_s, lambda: expression)

    def wait(self, check: Callable[[], Any], timeout_s: float, wanted: Callable[[], str]) -> Any:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if value := check():
                return value
            self.page.wait_for_timeout(50)  # lets the driver handle events
        self.shoot("failed")
        raise AssertionError(f"expected {wanted()} within {timeout_s:g} s")

    def value(self, name: str) -> float:
        """A number of the HUD."""
        text = self.page.inner_text(f"[data-value={name}]").split()[0]
        return float("nan") if text == "–" else float(text)

    def drawn(self, view: str = "#view-a") -> dict[str, int]:
        """Frames that were drawn so far, by camera."""
        script = "tiles => tiles.map(t => [t.dataset.camera, Number(t.firstChild.dataset.drawn ?? 0)])"
        return dict(self.page.eval_on_selector_all(f"{view} .tile", script))

    def until_drawn(self, more: int, view: str = "#view-a", timeout_s: float = 30) -> None:
        """Wait until every camera has drawn `more` frames than now."""
        before = self.drawn(view)
        assert before
        enough = lambda: all(n >= before.get(name, 0) + more for name, n in self.drawn(view).items())  # noqa: E731
        self.wait(
            enough,
            timeout_s,
            lambda: f"{more} more frames on every camera, got {self.drawn(view)} after {before}",
        )

    def pixels(self, view: str = "#view-a") -> dict[str, str]:
        """Every camera's picture now."""
        script = "tiles => tiles.map(t => [t.dataset.camera, t.firstChild.toDataURL()])"
        return dict(self.page.eval_on_selector_all(f"{view} .tile", script))

    def shoot(self, what: str) -> None:
        """Keep a picture of the page, where somebody asked for them."""
        if ARTEFACTS:
            self.page.screenshot(path=Path(ARTEFACTS) / f"{self.name}-{what}.png")


@pytest.fixture
def open_tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tab]]:
    """Opens pages; afterwards checks that none of them complained."""
    tabs: list[Tab] = []
    contexts: list[Any] = []

    def open_(url: str, **options: Any) -> Tab:
        contexts.append(browser.new_context(**{"viewport": LAPTOP, **options}))
        tabs.append(Tab(contexts[-1], url, request.node.name))
        return tabs[-1]

    yield open_
    for tab in tabs:
        tab.shoot("end")
    for context in contexts:
        context.close()
    for tab in tabs:
        assert [text for text in tab.complaints if not _is_meant(text, tab.refused)] == []


def _is_meant(complaint: str, refused: bool) -> bool:
    """The browser's own notes about a server that is gone, or that refuses where the test means it to."""
    return "net::ERR_" in complaint or (refused and complaint.startswith("Failed to load resource"))
