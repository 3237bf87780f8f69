"""The store's budget of memory, and what goes to disk when it is used up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.protocol import ProtocolError, Reset
from server.snapshot_files import SnapshotFiles
from server.snapshots import Snapshot, SnapshotStore

MORE: dict[str, Any] = {"next_chunk": 1, "ended": False, "observation": {}, "setup": None}
SHOWN: dict[str, Any] = {
    "next_chunk": 5,
    "ended": False,
    "observation": {
        "frames": {"front": [b"\xff\xd8 one", b"two"]},
        "ego": np.arange(28.0).reshape(4, 7),
        "agents": np.ones((1, 8), np.float32),
        "agent_kinds": ["car"],
        "metrics": {"ttc_s": [float("inf")] * 4, "route_progress_m": [1.5] * 4, "collision_with": [None] * 4},
    },
    "setup": (Reset(id=3, scenario="zero", seed=7, mode="realtime"), [{"name": "front"}], "jpeg"),
}
FILE_BYTES = 3000  # more than one file of a small state and what was shown, less than two


async def test_the_least_recently_used_snapshots_make_room() -> None:
    store = SnapshotStore(budget_bytes=30)
    a, b, _ = [await store.add("me", "s", bytes([k]) * 10, **MORE) for k in range(3)]
    await store.get(a.handle, "me")
    await store.add("me", "s", b"d" * 10, **MORE)
    assert await store.get(a.handle, "me") is a
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        await store.get(b.handle, "me")
    assert store.used_bytes == 30


async def test_a_snapshot_larger_than_the_budget_is_refused_and_drops_nothing() -> None:
    store = SnapshotStore(budget_bytes=10)
    kept = await store.add("me", "s", b"x" * 10, **MORE)
    with pytest.raises(ProtocolError, match="CAPACITY: expected a snapshot of at most 10 bytes, got 11"):
        await store.add("me", "s", b"x" * 11, **MORE)
    assert store.list("me") == [kept]


async def test_snapshots_belong_to_their_owner() -> None:
    store = SnapshotStore(budget_bytes=10)
    mine = await store.add("me", "s", b"x", **MORE)
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        store.drop(mine.handle, "you")
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        await store.get(mine.handle, "you")
    assert store.list("you") == []
    store.drop(mine.handle, None)
    assert store.used_bytes == 0


async def test_the_pictures_of_a_snapshot_count_too() -> None:
    store = SnapshotStore(budget_bytes=100)
    pictures = MORE | {"observation": {"frames": {"front": [b"x" * 60]}}}
    first = await store.add("me", "s", b"x", **pictures)
    assert store.used_bytes == first.kept_bytes == 61
    second = await store.add("me", "s", b"y", **pictures)
    assert store.list("me") == [second]


# With a folder ----------------------------------------------------------------------------------------------------------


def on_disk(folder: Path, memory_bytes: int = 70, folder_bytes: int = 1 << 20) -> SnapshotStore:
    return SnapshotStore(memory_bytes, SnapshotFiles(folder, folder_bytes))


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def assert_same(got: Snapshot, kept: Snapshot) -> None:
    assert got.head.__dict__ == kept.head.__dict__
    assert got.state == kept.state
    assert got.setup == kept.setup
    assert got.observation.keys() == kept.observation.keys()
    for name, value in kept.observation.items():
        np.testing.assert_equal(got.observation[name], value)


async def test_what_memory_has_no_room_for_is_read_back_from_disk(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    kept = [await store.add("me", "s", bytes([k]) * 50, **SHOWN) for k in range(3)]
    assert store.used_bytes == kept[2].kept_bytes
    assert len(files(tmp_path)) == 2
    assert store.file_bytes == sum(path.stat().st_size for path in files(tmp_path))
    for snapshot in kept:
        assert_same(await store.get(snapshot.handle, "me"), snapshot)
    assert {head.handle for head in store.list("me")} == {snapshot.handle for snapshot in kept}
    assert store.list("you") == []
    store.close()


async def test_snapshots_by_policy_are_not_written(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    for k in range(3):
        await store.add("me", "s", bytes([k]) * 50, "policy", **SHOWN)
    await store.keep_for_next_server()
    assert files(tmp_path) == []
    store.close()


async def test_the_next_server_has_the_snapshots_and_their_owners(tmp_path: Path) -> None:
    store = on_disk(tmp_path, memory_bytes=1000)
    kept = await store.add("me", "s", b"state", **SHOWN)
    await store.keep_for_next_server()
    store.close()
    again = on_disk(tmp_path)
    assert [head.__dict__ for head in again.list(None)] == [kept.head.__dict__]
    assert_same(await again.get(kept.handle, "me"), kept)
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        await again.get(kept.handle, "you")
    again.close()


async def test_the_folder_has_a_budget_of_its_own(tmp_path: Path) -> None:
    store = on_disk(tmp_path, folder_bytes=2 * FILE_BYTES)
    kept = [await store.add("me", "s", bytes([k]) * 50, **SHOWN) for k in range(12)]
    assert 0 < store.file_bytes <= 2 * FILE_BYTES
    assert store.file_bytes == sum(path.stat().st_size for path in files(tmp_path))
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        await store.get(kept[0].handle, "me")
    await store.get(kept[-2].handle, "me")
    store.close()


async def test_reading_a_file_keeps_it_longer_also_for_the_next_server(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    first, second, _ = [await store.add("me", "s", bytes([k]) * 50, **SHOWN) for k in range(3)]
    await store.get(first.handle, "me")
    store.close()
    assert [head.handle for head in on_disk(tmp_path).list("me")] == [second.handle, first.handle]


@pytest.mark.parametrize("harm", ["truncate", "flip a bit of the body", "flip a bit of the head", "delete"])
async def test_a_harmed_file_is_a_typed_error_and_takes_nothing_with_it(tmp_path: Path, harm: str) -> None:
    store = on_disk(tmp_path)
    kept = [await store.add("me", "s", bytes([k]) * 50, **SHOWN) for k in range(3)]
    path = next(path for path in files(tmp_path) if kept[0].handle in path.name)
    data = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(data[:-1])
    elif harm == "delete":
        path.unlink()
    else:
        place = len(data) - 5 if "body" in harm else 60
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT: expected an unharmed file"):
        await store.get(kept[0].handle, "me")
    for other in kept[1:]:
        assert_same(await store.get(other.handle, "me"), other)
    store.close()


async def test_files_that_are_no_snapshots_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "snap-0.rlsnapshot").write_bytes(b"RLSNAPF\x01 and then nonsense")
    (tmp_path / "snap-1.rlsnapshot.part").write_bytes(b"cut")  # what a crash left
    store = on_disk(tmp_path)
    assert store.list(None) == []
    assert {path.name for path in files(tmp_path)} == {"notes.txt", "snap-0.rlsnapshot"}
    store.close()


async def test_dropping_deletes_the_file(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    kept, _ = [await store.add("me", "s", bytes([k]) * 50, **SHOWN) for k in range(2)]
    assert len(files(tmp_path)) == 1
    store.drop(kept.handle, "me")
    assert files(tmp_path) == []
    assert store.file_bytes == 0
    store.close()


async def test_a_disk_that_refuses_costs_the_old_snapshot_only(tmp_path: Path, caplog: Any) -> None:
    store = on_disk(tmp_path / "gone")
    old = await store.add("me", "s", b"a" * 50, **SHOWN)
    (tmp_path / "gone").rmdir()
    new = await store.add("me", "s", b"b" * 50, **SHOWN)
    assert "cannot be kept on disk" in caplog.text
    assert [head.handle for head in store.list("me")] == [new.handle]
    with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
        await store.get(old.handle, "me")
    store.close()
