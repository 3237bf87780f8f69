"""Snapshots and forks."""

from typing import Any

import numpy as np

from clients.protocol import Forked, Restored, SnapshotTaken


def test_a_restored_session_continues_as_the_original(world: Any) -> None:
    world.step(0)
    taken = world.ask("snapshot")
    assert isinstance(taken, SnapshotTaken)
    assert (taken.next_chunk, len(taken.digest)) == (1, 64)
    expected = [world.step(k).frames for k in (1, 2)]
    restored = world.ask("restore", handle=taken.handle)
    assert isinstance(restored, Restored)
    assert restored.next_chunk == 1
    assert [world.step(k).frames for k in (1, 2)] == expected
    assert world.ask("restore", handle="no-such").code == "UNKNOWN_SNAPSHOT"


def test_forks_go_their_own_way(world: Any) -> None:
    world.step(0)
    forked = world.ask("fork", count=2)
    assert isinstance(forked, Forked)
    original = world.welcome.sessions[0].session
    left, right = (s.session for s in forked.sessions)
    assert all(s.next_chunk == 1 for s in forked.sessions)
    a = world.step(1, 2.0, session=left)
    b = world.step(1, session=right)
    c = world.step(1, session=original)
    assert b.frames == c.frames
    assert not np.array_equal(a.ego, c.ego)
    for name in (left, right):
        world.ask("close", session=name)
