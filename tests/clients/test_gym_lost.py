"""Environments outlive the worker that runs their worlds."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from clients.gym import ENV_ID
from clients.local import local_server


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A server's URL and process."""
    before = children(os.getpid())
    with local_server("zero", "--set", "breaker_losses=100") as url:
        (pid,) = children(os.getpid()) - before
        yield url, pid


def test_a_lost_worker_truncates_the_episodes_and_the_next_ones_begin_elsewhere(
    server: tuple[str, int],
) -> None:
    url, pid = server
    envs = gymnasium.make_vec(ENV_ID, num_envs=2, url=url, scenario="zero", rig="front1")
    envs.reset(seed=0)
    still = np.zeros((2, 2), np.float32)
    first = envs.step(still)[0]
    for worker in children(pid):
        os.kill(worker, signal.SIGKILL)
    seen, rewards, terminated, truncated, infos = envs.step(still)
    assert truncated.all()
    assert not terminated.any()
    assert not rewards.any()
    assert infos["reason"].tolist() == ["worker_lost"] * 2
    assert np.array_equal(seen["image_front_wide"], first["image_front_wide"])
    infos = envs.step(still)[4]  # begins anew
    assert infos["chunk"].tolist() == [-1, -1]
    infos = envs.step(still)[4]
    assert infos["chunk"].tolist() == [0, 0]
    envs.close()
