"""`roadloop bench viewer`: the page in headless Chromium against a world that costs nothing. Browser and server share this machine."""

import shutil
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.benchmarking import envelope, write_json
from clients.local import local_server

SIZE = {"width": 1440, "height": 860}
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = "tiles => tiles.map(tile => Number(tile.firstChild.dataset.drawn ?? 0))"
# Milliseconds from a key to the instruments of the first chunk that it changed, and to that chunk's first picture.
ANSWERED = """() => new Promise((done) => {
    const bar = document.querySelector('[data-bar=accel] i'), start = performance.now();
    const mosaic = document.querySelector('#view-a .mosaic'), since = () => performance.now() - start;
    const picture = (chunk, told) => Number(mosaic.dataset.chunk) >= chunk
        ? done([told, since()]) : requestAnimationFrame(() => picture(chunk, told));
    const watch = new MutationObserver(() => {
        if (bar.classList.contains('negative') || parseFloat(bar.style.width) <= 10) return;
        watch.disconnect();
        picture(Number(document.querySelector('[data-value=chunk]').textContent) - 1, since());
    });
    watch.observe(bar, {attributes: true});
    const key = {code: 'KeyW', bubbles: true};
    document.body.dispatchEvent(new KeyboardEvent('keydown', key));
    setTimeout(() => document.body.dispatchEvent(new KeyboardEvent('keyup', key)), 50);
})"""


def viewer_bench(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute on two cores.")] = False,
) -> None:
    """Measure first paint, pictures per second on every camera, and the answer to a key in real time."""
    with local_server("zero") as url:
        results = measure(url, 3 if quick else 12)
    document = envelope(results, {"engine": "zero", "rig": "surround7", "quick": quick, **SIZE})
    for name, value in results.items():
        typer.echo(f"{name}: {value:.1f}")
    if json_file is not None:
        write_json(document, json_file)


def measure(url: str, repeats: int) -> dict[str, float]:
    """All results, times in milliseconds.

    Raises:
        typer.Exit: without Playwright or a Chromium; it says which.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        typer.echo("error: expected the Python package playwright: pip install 'roadloop[dev]'", err=True)
        raise typer.Exit(2) from None
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        typer.echo(
            "error: expected a Chromium on the PATH, found none (Debian: apt install chromium)", err=True
        )
        raise typer.Exit(2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        first_paints_ms = [_first_paint_ms(browser, url) for _ in range(repeats)]
        rates = _pictures_per_s(browser, url, float(repeats))
        answers_ms = _answers_ms(browser, url, repeats)
        browser.close()
    return {
        "first_paint_ms": statistics.median(first_paints_ms),
        "slowest_camera_fps": min(rates),
        "key_to_instruments_p50_ms": statistics.median(told for told, _ in answers_ms),
        "key_to_instruments_max_ms": max(told for told, _ in answers_ms),
        "key_to_picture_p50_ms": statistics.median(shown for _, shown in answers_ms),
        "key_to_picture_max_ms": max(shown for _, shown in answers_ms),
    }


def _first_paint_ms(browser: Any, url: str) -> float:
    """With an empty cache."""
    page = browser.new_page(viewport=SIZE)
    page.goto(url)
    while not (painted_ms := page.evaluate(PAINTED)):
        page.wait_for_timeout(20)
    page.context.close()
    return float(painted_ms)


def _pictures_per_s(browser: Any, url: str, seconds: float) -> list[float]:
    """Of every camera, while the world is driven at the pace of its pictures."""
    page = _driving(browser, url, "lockstep")
    page.keyboard.down("w")
    page.wait_for_timeout(2000)
    before, began_s = page.eval_on_selector_all("#view-a .tile", DRAWN), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    after, elapsed_s = page.eval_on_selector_all("#view-a .tile", DRAWN), time.monotonic() - began_s
    page.context.close()
    return [(end - start) / elapsed_s for start, end in zip(before, after, strict=True)]


def _answers_ms(browser: Any, url: str, repeats: int) -> list[list[float]]:
    """Of every key press: until the instruments tell, until the picture shows."""
    page = _driving(browser, url, "realtime")
    page.keyboard.press("w")
    answers_ms = []
    for _ in range(repeats):
        page.wait_for_timeout(1300)  # the car rolls again, and the key may fall anywhere into a chunk
        answers_ms.append(page.evaluate(ANSWERED))
    page.context.close()
    return answers_ms


def _driving(browser: Any, url: str, mode: str) -> Any:
    """A page whose world waits for a driving key."""
    page = browser.new_page(viewport=SIZE)
    page.goto(url)
    page.locator("[name=scenario] option").first.wait_for(state="attached")
    page.select_option("[name=mode]", mode)
    page.click("#drive")
    page.locator("#status", has_text="driving key").wait_for(timeout=60_000)
    return page
