from typing import Any

import pytest

from clients.protocol import ProtocolError
from server.snapshots import SnapshotStore

MORE: dict[str, Any] = {"next_chunk": 1, "ended": False, "observation": {}, "setup": None}


def test_the_least_recently_used_snapshots_make_room() -> None:
    store = SnapshotStore(budget_bytes=30)
    a, b, _ = (store.add("me", "s", bytes([k]) * 10, **MORE) for k in range(3))
    store.get(a.handle, "me")
    store.add("me", "s", b"d" * 10, **MORE)
    assert store.get(a.handle, "me") is a
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        store.get(b.handle, "me")
    assert store.used_bytes == 30


def test_a_snapshot_larger_than_the_budget_is_refused_and_drops_nothing() -> None:
    store = SnapshotStore(budget_bytes=10)
    kept = store.add("me", "s", b"x" * 10, **MORE)
    with pytest.raises(ProtocolError, match="CAPACITY: expected a snapshot of at most 10 bytes, got 11"):
        store.add("me", "s", b"x" * 11, **MORE)
    assert store.list("me") == [kept]


def test_snapshots_belong_to_their_owner() -> None:
    store = SnapshotStore(budget_bytes=10)
    mine = store.add("me", "s", b"x", **MORE)
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        store.drop(mine.handle, "you")
    assert store.list("you") == []
    store.drop(mine.handle, None)
    assert store.used_bytes == 0


def test_the_pictures_of_a_snapshot_count_too() -> None:
    store = SnapshotStore(budget_bytes=100)
    pictures = MORE | {"observation": {"frames": {"front": [b"x" * 60]}}}
    first = store.add("me", "s", b"x", **pictures)
    assert store.used_bytes == first.kept_bytes == 61
    second = store.add("me", "s", b"y", **pictures)
    assert store.list("me") == [second]
