"""`roadloop data`: record episodes for training, and look at them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .explain import explained

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..data.folder import Entry


def register(app: typer.Typer) -> None:
    """Add `roadloop data build`, `show` and `lessons`."""
    data = typer.Typer(no_args_is_help=True, help="Record episodes for training, and look at them.")
    data.command("build")(build_command)
    data.command("show")(show_command)
    data.command("lessons")(lessons_command)
    app.add_typer(data, name="data")


def build_command(
    out: Annotated[Path, typer.Option(help="Folder to fill; an unfinished build goes on.")],
    scenarios: Annotated[
        str, typer.Option(help="all, or names, groups and files, separated by commas.")
    ] = "all",
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    episodes: Annotated[int, typer.Option(help="How many; may grow from run to run.")] = 24,
    seconds: Annotated[float, typer.Option(help="Longest episode.")] = 20.0,
    seed: int = 0,
    rig: Annotated[str, typer.Option(help="Preset or YAML file.")] = "surround7",
    size: Annotated[str, typer.Option(help="Camera size, HEIGHTxWIDTH.")] = "128x224",
    layout: Annotated[bool, typer.Option(help="Record layouts and depth too.")] = True,
    codec: Annotated[str, typer.Option(help="png (lossless) or jpeg (quality 95).")] = "png",
    perturbed: Annotated[float, typer.Option(help="Share of episodes with a perturbed expert.")] = 0.5,
    rig_jitter: Annotated[float, typer.Option(help="How far cameras move from episode to episode.")] = 0.0,
    weather: Annotated[str | None, typer.Option(help="In all episodes.")] = None,
    time_of_day: Annotated[str | None, typer.Option(help="In all episodes: day, dusk or night.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 records in this one.")] = 1,
    device: Annotated[str, typer.Option(help="Where to render: cpu or cuda.")] = "cpu",
) -> None:
    """Record episodes: pictures, layouts, depth, motion, actions, agents and driving checks.

    Killed at any moment, the same command goes on where it stopped and ends with the same bytes.
    """
    from ..data.build import build
    from ..data.plan import BuildSettings
    from ..data.selection import select_scenarios

    with explained(), _progress() as progress:
        height, width = parse_size(size)
        settings = BuildSettings(
            scenarios=select_scenarios(scenarios, split),
            episodes=episodes,
            seed=seed,
            split=split,
            seconds=seconds,
            rig=rig,
            height=height,
            width=width,
            layout=layout,
            codec=codec,  # type: ignore[arg-type]  # checked by BuildSettings
            perturbed_share=perturbed,
            rig_jitter=rig_jitter,
            weather=weather,
            time_of_day=time_of_day,
        )
        task = progress.add_task("episodes", total=episodes)
        entries = build(
            out,
            settings,
            workers,
            device,
            on_start=lambda done, total: progress.update(task, completed=min(done, total)),
            on_episode=lambda entry: progress.update(task, advance=1, description=entry.scenario),
        )
        progress.update(task, description="episodes")
    typer.echo(f"{out}: {_totals(entries)}")


def show_command(
    folder: Annotated[Path, typer.Argument(help="A data folder, finished or not.")],
    out: Annotated[
        Path | None, typer.Option(help="Name of the files without suffix; default FOLDER/show.")
    ] = None,
    count: Annotated[int, typer.Option(help="Episodes on the contact sheet, spread over all.")] = 24,
    episode: Annotated[int, typer.Option(help="Position of the episode in the video.")] = 0,
) -> None:
    """Write a contact sheet (PNG) of some episodes and a video (MP4) of one, and print what there is."""
    from ..data.folder import EpisodeFolder
    from ..data.show import episode_sheet, episode_video

    with explained():
        data = EpisodeFolder(folder)
        data.settings()  # refuses what is no data folder
        entries = data.entries()
        if not entries or not -len(entries) <= episode < len(entries):
            raise ValueError(
                f"expected a position among the {len(entries)} episodes in {folder}, got {episode}"
            )
        _print_summary(entries)
        target = out or folder / "show"
        episode_sheet(data, entries, count, target.with_suffix(".png"))
        episode_video(data, entries[episode], target.with_suffix(".mp4"))
        typer.echo(f"{target.with_suffix('.png')}\n{target.with_suffix('.mp4')}")


def lessons_command(
    folder: Annotated[Path, typer.Argument(help="A data folder, finished or not.")],
    out: Annotated[Path, typer.Option(help="NumPy file (.npz) to write.")],
    cameras: Annotated[str, typer.Option(help="Names, separated by commas.")] = "front_wide,front_narrow",
) -> None:
    """Write what a policy would see at every chunk of the episodes, and what the expert would do there.

    The recorded drives may be bad ones: the expert is asked anew, in the same scenes. `roadloop learn clone` learns from the file.
    """
    from ..data.lessons import write_lessons

    with explained(), _progress() as progress:
        task = progress.add_task("lessons", total=None)
        count = write_lessons(
            folder,
            cameras.split(","),
            out,
            on_episode=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{out}: {count} lessons")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from `128x224`. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(f"expected a size as HEIGHTxWIDTH, such as 128x224, got {text!r}")
    return int(match[1]), int(match[2])


def _progress() -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )


def _print_summary(entries: "list[Entry]") -> None:
    """One row per scenario: episodes, minutes, how they ended."""
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    from ..scene.clock import FPS

    table = Table("scenario", "episodes", "minutes", "outcomes", title=_totals(entries), title_justify="left")
    for name in sorted({entry.scenario for entry in entries}):
        mine = [entry for entry in entries if entry.scenario == name]
        outcomes = Counter(entry.outcome for entry in mine).most_common()
        minutes = sum(entry.frames for entry in mine) / FPS / 60
        table.add_row(
            name, str(len(mine)), f"{minutes:.1f}", ", ".join(f"{n} {word}" for word, n in outcomes)
        )
    Console().print(table)


def _totals(entries: "list[Entry]") -> str:
    frames, size = sum(entry.frames for entry in entries), sum(entry.size_bytes for entry in entries)
    return f"{len(entries)} episodes, {frames} frames, {size / 1e6:.1f} MB"
