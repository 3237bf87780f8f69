"""A recording as a video and as a log: what other programs read is what was driven."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from typer.testing import CliRunner

from clients.cli import build_app
from clients.client import connect
from clients.observation import StepResult
from server.export import export
from server.recording import Recorder, read_recording
from worldmodel.video import read_mp4

RIG = "front3"
CHUNKS = 3


@pytest.fixture(scope="module")
def driven(run_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two recordings, of a reset and of a restore, with what their driver saw."""
    records = tmp_path_factory.mktemp("records")
    with run_server("--record-dir", str(records)) as server, connect(server.url, sessions=2) as client:
        first, second = client.sessions
        opening = first.reset("zero", seed=3, rig=RIG, record=True)
        seen: list[StepResult] = [first.step([0.02, 0.5]) for _ in range(CHUNKS)]
        second.restore(first.snapshot().handle)
        later = second.step([0.0, -1.0])
        paths = {session.name: next(records.glob(f"*-{session.name}-*")) for session in (first, second)}
        yield {
            "reset": paths[first.name],
            "restore": paths[second.name],
            "opening": opening,
            "seen": seen,
            "later": later,
        }


def messages(path: Path) -> dict[str, list[Any]]:
    """Decoded messages of a log by topic."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for _, channel, _, message in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
    return found


def test_a_log_holds_the_pictures_states_and_actions_that_were_driven(driven: Any, tmp_path: Path) -> None:
    target = tmp_path / "drive.mcap"
    made = export(driven["reset"], target, "mcap")
    assert (made.frames, made.difference) == (1 + 4 * CHUNKS, None)
    found = messages(target)
    for camera in driven["opening"].cameras:
        pictures = [message.data for message in found[f"/camera/{camera}/image"]]
        shown = [
            *driven["opening"].frames[camera],
            *(image for each in driven["seen"] for image in each.frames[camera]),
        ]
        assert pictures == shown
        assert {message.format for message in found[f"/camera/{camera}/image"]} == {"jpeg"}
        assert found[f"/camera/{camera}/calibration"][0].K[0] == driven["opening"].cameras[camera].fx
    speeds = [state.speed_mps for state in found["/state"]]
    assert speeds[1:] == [speed for each in driven["seen"] for speed in each.ego_frames[:, 3]]
    assert [state.action_accel for state in found["/state"][:-1]] == [0.5] * (4 * CHUNKS)
    assert len(found["/ego/pose"]) == made.frames
    assert len(found["/world"]) == 1 + CHUNKS


def test_a_log_of_a_restored_session_begins_with_what_was_seen_last(driven: Any, tmp_path: Path) -> None:
    target = tmp_path / "restored.mcap"
    assert export(driven["restore"], target, "mcap").frames == 1 + 4
    found = messages(target)
    (camera, *_) = driven["opening"].cameras
    pictures = [message.data for message in found[f"/camera/{camera}/image"]]
    assert pictures == [driven["seen"][-1].frames[camera][-1], *driven["later"].frames[camera]]


def test_a_video_shows_every_camera_or_one(driven: Any, tmp_path: Path) -> None:
    mosaic, one = tmp_path / "all.mp4", tmp_path / "one.mp4"
    assert export(driven["reset"], mosaic).frames == 1 + 4 * CHUNKS
    export(driven["reset"], one, camera="front_wide")
    whole, single = list(read_mp4(mosaic)), list(read_mp4(one))
    assert len(whole) == len(single) == 1 + 4 * CHUNKS
    seen = driven["seen"][-1].image("front_wide")
    assert single[-1].shape == seen.shape
    assert np.abs(single[-1].astype(int) - seen.astype(int)).mean() < 12  # lossy twice
    assert whole[0].shape[1] > 2 * seen.shape[1]
    with pytest.raises(ValueError, match="expected a camera of front_wide"):
        export(driven["reset"], tmp_path / "none.mp4", camera="no-such")
    assert not (tmp_path / "none.mp4").exists()


def test_the_command_says_what_it_wrote_and_what_is_not_as_recorded(driven: Any, tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = tmp_path / "a.mp4"
    told = run(build_app(), ["export", str(driven["reset"]), "--out", str(out), "--camera", "front_wide"])
    assert (told.exit_code, told.stdout) == (0, f"{out}: {1 + 4 * CHUNKS} frames\n")
    header, *records = read_recording(driven["reset"])
    forged = tmp_path / "forged.rlrec"
    recorder = Recorder(forged, {key: value for key, value in header.items() if key != "kind"})
    for record in records:
        recorder.write(record | ({"frame_digest": "0" * 64} if record.get("chunk") == 1 else {}))
    recorder.close()
    told = run(build_app(), ["export", str(forged), "--camera", "front_wide"])
    assert told.exit_code == 1
    assert "chunk 1 differs in its frames" in told.stderr
    assert cv2.VideoCapture(str(forged.with_suffix(".mp4"))).isOpened()
    assert run(build_app(), ["export", str(forged), "--to", "gif"]).exit_code == 2
