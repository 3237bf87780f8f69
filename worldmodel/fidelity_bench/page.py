"""The results as one HTML page that needs nothing else: gates, curves, tables, pictures."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..scene.clock import CHUNK_DT_S
from ..xcache_bench.page import STYLE
from ..xcache_bench.svg import Points, curves, legend
from .gates import Gate
from .table import COLUMNS, sections, shown

PICTURES = {"true": "truth", "layout": "generated", "layout_off": "generated without layout"}


def write_page(
    document: Mapping[str, Any], claims: Sequence[Gate], pictures: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Write the page of a benchmark's document, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(document, claims, pictures), encoding="utf-8")


def page(document: Mapping[str, Any], claims: Sequence[Gate], pictures: Sequence[Mapping[str, Any]]) -> str:
    """The page as text."""
    results, config, hardware = document["results"], document["config"], document["hardware"]
    title = f"Fidelity: {config['model']}, {config['weights']} weights"
    facts = (
        f"{hardware['cpu']}, {hardware['cores']} cores, commit {document['commit']}, {config['steps']} steps"
    )
    parts = [f"<p>{escape(facts)}; scenarios: {escape(', '.join(config['scenarios']))}</p>", _gates(claims)]
    parts += [_curves(results), _tables(results), _pictures(pictures)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"/><title>{escape(title)}</title>'
        f"<style>{STYLE} img {{ max-width: 100% }}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}"
        "</body></html>\n"
    )


def _gates(claims: Sequence[Gate]) -> str:
    verdicts = {True: "holds", False: "<b>fails</b>", None: "not measured"}
    rows = "".join(
        f"<tr><td>{escape(g.name)}</td><td>{shown(g.value)}</td><td>{escape(g.wanted)}</td><td>{verdicts[g.holds]}</td></tr>"
        for g in claims
    )
    return (
        f"<h2>Gates</h2><table><tr><th>gate</th><th>measured</th><th>wanted</th><th></th></tr>{rows}</table>"
    )


def _curves(results: Mapping[str, Any]) -> str:
    off = results["layout_off"]
    quality = {
        "with layout": _points(results["horizons"], "psnr"),
        "without layout": _points(off["horizons"], "psnr"),
        "copying the first frame": _points(results["horizons"], "copy_last_frame_psnr"),
        "bare warp": _points(results["horizons"], "bare_warp_psnr"),
        "tokeniser": _points(results["horizons"], "tokenizer_psnr"),
    }
    motion = {
        "with layout": _points(results["horizons"], "motion_energy_ratio"),
        "without layout": _points(off["horizons"], "motion_energy_ratio"),
    }
    pictures = curves(quality, "seconds, logarithm", "PSNR to the truth [dB]")
    return (
        f"<h2>Over time</h2>{pictures}{curves(motion, 'seconds, logarithm', 'motion energy ratio')}"
        f"{legend(list(quality))}"
    )


def _points(horizons: Mapping[str, Mapping[str, Any]], name: str) -> Points:
    """(log10 of seconds, value): horizons span two decades."""
    seconds = {h: CHUNK_DT_S if h == "chunk" else float(h) for h in horizons}
    return [(float(np.log10(seconds[h])), row[name]) for h, row in horizons.items() if row[name] is not None]


def _tables(results: dict[str, Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *COLUMNS.values()))
    parts = []
    for title, rows in sections(results).items():
        body = "".join(
            f"<tr><td>{escape(name)}</td>{''.join(f'<td>{shown(row.get(key))}</td>' for key in COLUMNS)}</tr>"
            for name, row in rows.items()
        )
        parts.append(f"<h2>{escape(title.capitalize())}</h2><table><tr>{head}</tr>{body}</table>")
    return "".join(parts)


def _pictures(pictures: Sequence[Mapping[str, Any]]) -> str:
    parts = ["<h2>To be looked at: the first scenario</h2>"]
    for moment in pictures:
        rows = [np.concatenate(list(moment[name]), axis=1) for name in PICTURES if name in moment]
        labels = ", ".join(label for name, label in PICTURES.items() if name in moment)
        after = f"after {(moment['chunk'] + 1) * CHUNK_DT_S:.1f} s: {labels}"
        parts.append(
            f'<figure><img alt="{escape(after)}" src="data:image/jpeg;base64,{_jpeg(np.concatenate(rows))}"/>'
            f"<figcaption>{escape(after)}</figcaption></figure>"
        )
    return "".join(parts)


def _jpeg(picture: np.ndarray) -> str:
    """uint8 [H, W, 3] RGB as base64."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return b64encode(data.tobytes()).decode("ascii")
