"""Builds data folders with worker processes. Killed at any moment, it goes on where it stopped, to the same bytes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Thread

import torch

from ..rig import load_rig
from ..scene.conditions import fix_conditions
from ..scene.scenario import load_scenario
from .folder import Entry, EpisodeFolder, describe
from .plan import BuildError, BuildSettings, plan_episode
from .record import Recorder
from .shard import write_shard

_recorder: Recorder | None = None  # of this worker process


def build(
    path: str | Path,
    settings: BuildSettings,
    workers: int = 1,
    device: str = "cpu",
    on_start: Callable[[int, int], None] = lambda done, total: None,
    on_episode: Callable[[Entry], None] = lambda entry: None,
) -> list[Entry]:
    """Record every episode that the folder lacks.

    Args:
        path: the data folder; created where it does not exist.
        settings: what to record. A folder begun before must have the same, except that `episodes` may grow.
        workers: processes; 0 records in this one.
        device: where to render.
        on_start: called once with the number of episodes there are already, and wanted.
        on_episode: called with each new episode.

    Returns:
        All episodes of the folder.

    Raises:
        PresetError, RigError, ScenarioError: a rig or a scenario that does not exist or is none.
        BuildError: other settings, another folder's files, or a worker that died.
        ShardError: an episode on disk is damaged; the message names it.
    """
    _check(settings, device)
    folder = EpisodeFolder(path)
    folder.begin(settings)
    there = {entry.index for entry in folder.write_index()}
    missing = [index for index in range(settings.episodes) if index not in there]
    on_start(len(there), settings.episodes)
    make = (
        _in_workers(folder.path, settings, missing, workers, device)
        if workers
        else _here(folder.path, settings, missing, device)
    )
    for entry in make:
        folder.write_index()
        on_episode(entry)
    return folder.entries()


def _check(settings: BuildSettings, device: str) -> None:
    """Refuse what no worker could make before anything is written."""
    load_rig(settings.rig)
    for name in settings.scenarios:
        fix_conditions(load_scenario(name), settings.weather, settings.time_of_day)
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise BuildError(f"expected a device that is there, got {device!r} without a CUDA device")


def _here(path: Path, settings: BuildSettings, missing: list[int], device: str) -> Iterator[Entry]:
    recorder = Recorder(settings, device)
    for index in missing:
        yield _make(recorder, path, settings, index)


def _in_workers(
    path: Path, settings: BuildSettings, missing: list[int], workers: int, device: str
) -> Iterator[Entry]:
    # Spawned, not forked: a fork of a process that has used torch may hang in its thread pool.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(settings, device))
    try:
        for future in as_completed([pool.submit(_work, path, settings, index) for index in missing]):
            yield future.result()
    except BrokenProcessPool as error:
        raise BuildError(
            "expected workers to finish, got one that died, perhaps for lack of memory: finished episodes are "
            "kept; run the same command again, with fewer workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(settings: BuildSettings, device: str) -> None:
    global _recorder
    torch.set_num_threads(1)  # one core per worker
    Thread(target=_end_with_parent, daemon=True).start()
    _recorder = Recorder(settings, device)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(path: Path, settings: BuildSettings, index: int) -> Entry:
    assert _recorder is not None
    return _make(_recorder, path, settings, index)


def _make(recorder: Recorder, path: Path, settings: BuildSettings, index: int) -> Entry:
    shard = EpisodeFolder(path).shard_path(index)
    write_shard(shard, recorder.record(plan_episode(settings, index)), settings.codec)
    return describe(shard)
