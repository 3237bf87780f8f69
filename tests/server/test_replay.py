"""Recordings that go back, branch and change hands replay to the same digests, or the first chunk that differs is named."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.client import Session, connect
from clients.protocol import ProtocolError
from server.lineage import lineage, read_header
from server.recording import Recorder, RecordingError, read_recording
from server.replay import _decided_alike, replay

RIG = "front1"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def server(run_server: Any, records: Path) -> Iterator[Any]:
    with run_server("--record-dir", str(records)) as server:
        yield server


@pytest.fixture
def drive(server: Any, records: Path) -> Callable[[Callable[[Session], None]], list[Path]]:
    """Drive one recorded session as told; its recordings, oldest first."""

    def drive(what: Callable[[Session], None], **choices: Any) -> list[Path]:
        before = set(records.iterdir())
        with connect(server.url) as client:
            client.session.reset("zero", seed=5, rig=RIG, **({"record": True} | choices))
            what(client.session)
        return sorted(set(records.iterdir()) - before, key=lambda path: path.stat().st_mtime_ns)

    return drive


def steps(session: Session, count: int, accel: float = 0.5) -> None:
    for _ in range(count):
        session.step([0.01, accel])


def kinds(path: Path) -> list[str]:
    return [record["kind"] for record in read_recording(path)][1:]


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Path:
    """The recording with its records changed, or left out where there is None."""
    header, *records = read_recording(path)
    target = path.with_name(f"forged-{os.urandom(4).hex()}.rlrec")
    recorder = Recorder(target, {key: value for key, value in header.items() if key != "kind"})
    for record in filter(None, map(change, records)):
        recorder.write(record)
    recorder.close()
    return target


def test_a_session_that_goes_back_to_its_own_snapshot_replays(drive: Any) -> None:
    def back_and_on(session: Session) -> None:
        steps(session, 2)
        handle = session.snapshot().handle
        steps(session, 2)
        for accel in (1.0, -1.0):
            session.restore(handle)
            steps(session, 2, accel)

    (path,) = drive(back_and_on)
    assert kinds(path).count("restore") == 2
    assert not any("state" in record for record in read_recording(path))  # the file itself leads there
    report = replay(path)
    assert (report.same, report.chunks) == (True, 8), report


def test_a_driver_that_got_the_newest_frames_alone_replays_also_after_a_restore(drive: Any) -> None:
    handles = []

    def keep(session: Session) -> None:
        steps(session, 2)
        handles.append(session.snapshot().handle)

    def back(session: Session) -> None:  # into a recording that does not lead there
        steps(session, 1)
        session.restore(handles[0])
        steps(session, 2)

    def forget_newest(record: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name != "newest_frames"}

    for what in (keep, back):
        path = drive(what, newest_frames=1)[0]
        assert replay(path).same, replay(path)
        assert "frames" in str(replay(rewrite(path, forget_newest)))


def test_a_session_that_was_restored_from_another_ones_snapshot_replays(drive: Any, server: Any) -> None:
    def give(session: Session) -> None:
        steps(session, 3)
        handle = session.snapshot().handle
        with connect(server.url) as other:
            other.session.restore(handle)
            steps(other.session, 2, 1.5)

    first, second = drive(give)
    assert kinds(second) == ["restore", "chunk", "chunk"]
    assert [replay(path).same for path in (first, second)] == [True, True]
    assert replay(second).chunks == 2


def test_a_fork_replays_from_the_recording_that_it_branched_from(drive: Any) -> None:
    def branch(session: Session) -> None:
        steps(session, 2)
        (copy,) = session.fork()
        steps(copy, 1, 2.0)
        (grandchild,) = copy.fork()
        steps(grandchild, 2, -2.0)
        steps(session, 3)

    paths = drive(branch)
    lengths = {path: sum(kind == "chunk" for kind in kinds(path)) for path in paths}
    assert sorted(lengths.values()) == [1, 2, 5]
    whole = {1: 3, 2: 5, 5: 5}  # with the chunks that led to the branch
    for path in paths:
        report = replay(path)
        assert (report.same, report.chunks) == (True, whole[lengths[path]]), report


def test_a_fork_without_its_origin_says_which_file_is_missing(drive: Any, tmp_path: Path) -> None:
    def branch(session: Session) -> None:
        steps(session, 1)
        steps(session.fork()[0], 1)

    paths = drive(branch)
    (fork,) = [path for path in paths if kinds(path)[0] == "fork"]
    (origin,) = [path for path in paths if path != fork]
    alone = tmp_path / fork.name
    alone.write_bytes(fork.read_bytes())
    with pytest.raises(RecordingError, match=origin.name):
        replay(alone)
    (tmp_path / origin.name).write_bytes(origin.read_bytes()[:200])
    with pytest.raises(RecordingError, match=r"expected 2 records .* got 0"):
        replay(alone)


def test_a_session_that_lost_its_worker_replays_with_its_fall_back(run_server: Any, tmp_path: Path) -> None:
    with run_server("--record-dir", str(tmp_path)) as server, connect(server.url) as client:
        session = client.session
        session.reset("zero", seed=5, rig=RIG, record=True, snapshot_every=2)
        steps(session, 3)
        session.snapshot()  # waits for the one that was due after chunk 1
        os.kill(server.workers[0], signal.SIGKILL)
        with pytest.raises(ProtocolError, match="WORKER_LOST"):
            session.step([0.01, 0.5])
        assert session.next_chunk == 2
        steps(session, 2, -1.0)
    (path,) = tmp_path.glob("*.rlrec")
    chunks = [record["chunk"] for record in read_recording(path) if record["kind"] == "chunk"]
    assert chunks == [0, 1, 2, 2, 3]
    report = replay(path)
    assert (report.same, report.chunks) == (True, 5), report


def test_the_first_chunk_that_differs_after_a_restore_is_named(drive: Any) -> None:
    def back(session: Session) -> None:
        steps(session, 1)
        handle = session.snapshot().handle
        steps(session, 2)
        session.restore(handle)
        steps(session, 2, 1.0)

    (path,) = drive(back)
    seen = 0

    def later(record: dict[str, Any]) -> dict[str, Any]:
        nonlocal seen
        seen += record["kind"] == "chunk"
        return record | {"actions": record["actions"] * 0.5} if seen == 5 and "actions" in record else record

    report = replay(rewrite(path, later))
    assert (report.same, report.chunks) == (False, 5)
    assert "chunk 2 differs in its frames" in str(report)
    without = rewrite(path, lambda record: None if record["kind"] == "restore" else record)
    assert "chunk 1 was recorded where chunk 3 comes" in str(replay(without))
    lost = rewrite(path, lambda record: None if record["kind"] == "snapshot" else record)
    with pytest.raises(RecordingError, match="before its restore"):
        replay(lost)


def test_a_recording_of_another_model_is_not_replayed(drive: Any, tmp_path: Path) -> None:
    (path,) = drive(lambda session: steps(session, 1))
    header, *records = read_recording(path)
    other = tmp_path / "other.rlrec"
    recorder = Recorder(other, {**header, "model_digest": "f00d"})
    for record in records:
        recorder.write(record)
    recorder.close()
    with pytest.raises(RecordingError, match="expected model 'f00d' as recorded, got ''"):
        replay(other)


def test_a_recording_knows_how_its_engine_was_built(drive: Any) -> None:
    (path,) = drive(lambda session: steps(session, 1))
    assert read_header(path)["choice"] == {"name": "zero", "device": "cpu", "options": {}}
    assert [record["kind"] for record in lineage(path)] == ["reset", "chunk"]


def test_a_file_that_branches_from_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.rlrec"
    recorder = Recorder(path, {"engine": "zero"})
    recorder.write({"kind": "fork", "of": "loop.rlrec", "records": 1})
    recorder.close()
    with pytest.raises(RecordingError, match="branches"):
        list(lineage(path))


def test_a_replay_compares_what_was_skipped_and_not_how_long_deciding_took() -> None:
    recorded = {"reason": np.array([[9, 0], [9, 4]], np.uint8), "gate_us": 41.0}
    assert _decided_alike({"reason": recorded["reason"].copy(), "gate_us": 57.0}, recorded)
    assert not _decided_alike({"reason": np.zeros((2, 2), np.uint8), "gate_us": 41.0}, recorded)
    assert not _decided_alike(None, recorded)
