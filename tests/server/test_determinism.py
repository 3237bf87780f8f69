"""A session is what its seed and actions make it, whatever else runs: alone, in a batch, restored, forked, in another worker."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from clients.client import Client, Session, connect
from clients.observation import StepResult, decode_image
from worldmodel.model.precision import fast_dtype

CHUNKS, HALF, SEED = 3, 2, 11
# Grey levels, on average over a picture. Where networks run in float32, matrix products of another batch round differently;
# in bfloat16 they come out the same to the bit.
FLOAT32 = fast_dtype(torch.device("cpu")) == torch.float32
ROUNDING = {"zero": 0.0, "reference": 0.0, "worldmodel": 0.25 if FLOAT32 else 0.0}
ACTIONS = [(0.02 * k, 0.5 - 0.2 * k) for k in range(CHUNKS)]
ENGINES = {
    "zero": ("zero", "front1", {}, {}),
    "reference": ("urban_cruise", "front1", {}, {}),
    "worldmodel": ("urban_cruise", None, {"model": "tiny"}, {"tier": "balanced"}),
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "zero")) for name in ENGINES])
def server(request: pytest.FixtureRequest, run_server: Any, http: Any) -> Iterator[tuple[str, Any]]:
    """Two workers."""
    options = json.dumps(ENGINES[request.param][2])
    flags = ["--engine", request.param, "--workers", "cpu:2", "--set", f"engine_options={options}"]
    flags += ["--set", "step_timeout_s=120"]  # a busy machine is no stuck worker
    with run_server(*flags) as running:
        deadline_s = time.monotonic() + 100
        while http(running.url, "/v1/server").body["workers_ready"] < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield request.param, running


def begin(engine: str, session: Session, seed: int = SEED) -> None:
    scenario, rig, _, options = ENGINES[engine]
    session.reset(scenario, seed, rig=rig, options=options)


def drive(client: Client, sessions: Sequence[Session], first: int, last: int) -> list[list[StepResult]]:
    """Results by session and chunk; all sessions step together."""
    driven: list[list[StepResult]] = [[] for _ in sessions]
    for action in ACTIONS[first:last]:
        results = client.step_many(dict.fromkeys(sessions, action))
        for k, session in enumerate(sessions):
            result = results[session]
            assert isinstance(result, StepResult), result
            driven[k].append(result)
    return driven


def same(one: Sequence[StepResult], other: Sequence[StepResult], rounding: float) -> bool:
    """The same motion to the bit, and the same pictures: to the bit, or but for rounding."""
    pairs = list(zip(one, other, strict=True))
    moved_alike = all(a.ego_frames.tobytes() == b.ego_frames.tobytes() for a, b in pairs)
    return moved_alike and all(_alike(a, b, rounding) for a, b in pairs)


def _alike(a: StepResult, b: StepResult, rounding: float) -> bool:
    if a.frames == b.frames:
        return True
    if not rounding or a.frames.keys() != b.frames.keys():
        return False
    encoded = [pair for name in a.frames for pair in zip(a.frames[name], b.frames[name], strict=True)]
    decoded = [(decode_image(x).astype(float), decode_image(y).astype(float)) for x, y in encoded]
    return max(np.abs(x - y).mean() for x, y in decoded) <= rounding


@pytest.mark.timeout(300)
def test_the_same_session_has_the_same_frames_everywhere(server: tuple[str, Any], http: Any) -> None:
    engine, running = server
    with connect(running.url) as client:
        begin(engine, client.session)
        (alone,) = drive(client, client.sessions, 0, CHUNKS)
    assert not same(alone[:1], alone[1:2], ROUNDING[engine])

    def matches(one: Sequence[StepResult], other: Sequence[StepResult]) -> bool:
        return same(one, other, ROUNDING[engine])

    with connect(running.url, sessions=16) as client:  # eight in each worker
        for k, session in enumerate(client.sessions):
            begin(engine, session, SEED if k < 2 else 100 + k)
        driven = drive(client, client.sessions, 0, HALF)
        snapshot = client.sessions[0].snapshot()
        copies = [*client.sessions[0].fork(), *client.sessions[1].fork()]
        second = drive(client, client.sessions, HALF, CHUNKS)
        workers = {view["session"]: view["worker"] for view in http(running.url, "/v1/sessions").body}
        assert sorted({workers[session.name] for session in client.sessions[:2]}) == ["w0", "w1"]
        for k in (0, 1):
            assert matches(driven[k] + second[k], alone)
            assert matches(second[client.sessions.index(copies[k])], alone[HALF:])
        assert not any(matches(other, alone[:HALF]) for other in driven[2:])
        for session in client.sessions[2:4]:
            session.restore(snapshot.handle)
        assert sorted({workers[session.name] for session in client.sessions[2:4]}) == ["w0", "w1"]
        assert all(
            matches(again, alone[HALF:]) for again in drive(client, client.sessions[2:4], HALF, CHUNKS)
        )
