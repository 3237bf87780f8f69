"""Specs: how a policy is named, and what is said to a spec that names none; scripted action files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.policies import EpisodeInfo, PolicyError, PolicySpecError, load_policy
from clients.policies.scripted import Replay, Schedule
from clients.protocol import ActionSpace

SPACE = ActionSpace(name="controls", columns=["steering", "accel"], low=[-0.6, -8.0], high=[0.6, 4.0])
INFO = EpisodeInfo("zero", 0, 4, 0.25, {"controls": SPACE})
NOBODY: Any = None  # scripted policies look at nothing


def test_arguments_are_read_as_yaml() -> None:
    spec = load_policy("random?scale=0.25&space=pose_delta&seed=3")
    assert (spec.name, dict(spec.arguments)) == (
        "random?scale=0.25&space=pose_delta&seed=3",
        {"scale": 0.25, "space": "pose_delta", "seed": 3},
    )


def test_a_class_of_ones_own_needs_no_base_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_drivers.py").write_text(
        "class Mine:\n"
        "    def __init__(self, speed=1): self.speed = speed\n"
        "    def reset(self, info): pass\n"
        "    def act(self, seen): return [0.0, self.speed]\n"
        "class Half:\n    def act(self, seen): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_policy("my_drivers:Mine?speed=2").make().act(NOBODY) == [0.0, 2]
    with pytest.raises(PolicySpecError, match="reset and act, got Half"):
        load_policy("my_drivers:Half").make()
    with pytest.raises(PolicySpecError, match=r"my_drivers:Mine\?tempo=2.*tempo"):
        load_policy("my_drivers:Mine?tempo=2").make()
    with pytest.raises(PolicySpecError, match="module:attribute, got 'my_drivers:Other'"):
        load_policy("my_drivers:Other").make()


def test_a_file_names_a_policy_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "calm.yaml").write_text(
        "policy: lane_keeper?gain=0.5\nname: calm\nwith: {speed_share: 0.7}\n"
    )
    spec = load_policy(f"{tmp_path}/calm.yaml")
    assert (spec.name, dict(spec.arguments)) == ("calm", {"gain": 0.5, "speed_share": 0.7})
    (tmp_path / "wrong.yaml").write_text("policy: idle\narguments: {}\n")
    with pytest.raises(PolicySpecError, match="expected one of policy, name, with, got 'arguments'"):
        load_policy(f"{tmp_path}/wrong.yaml")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "cleverest",
            "expected a policy of constant, .*module:Class, a file or ws://host:port, got 'cleverest'",
        ),
        ("nowhere.yaml", "which does not exist"),
        ("http://host:8000", "ws://host:port or wss://host:port"),
        ("idle?fast", "key=value"),
    ],
)
def test_a_spec_that_names_no_policy_says_what_does(spec: str, words: str) -> None:
    with pytest.raises(PolicySpecError, match=words):
        load_policy(spec)


def test_a_url_is_a_remote_policy_with_arguments() -> None:
    spec = load_policy("ws://host:8000/drive?timeout_s=5&space=pose_delta")
    assert spec.name == "ws://host:8000/drive"
    assert dict(spec.arguments) == {"url": "ws://host:8000/drive", "timeout_s": 5, "space": "pose_delta"}


def test_a_schedule_holds_each_step_until_the_next(tmp_path: Path) -> None:
    (tmp_path / "swerve.yaml").write_text(
        "steps:\n  - {at_s: 0.0, action: [0.0, 1.0]}\n  - {at_s: 0.5, action: [0.1, 0.0]}\n"
    )
    policy = load_policy(f"{tmp_path}/swerve.yaml").make()
    policy.reset(INFO)
    np.testing.assert_allclose(policy.act(NOBODY), [[0, 1], [0, 1], [0.1, 0], [0.1, 0]])
    np.testing.assert_allclose(policy.act(NOBODY), [[0.1, 0]] * 4)
    policy.reset(INFO)
    np.testing.assert_allclose(np.asarray(policy.act(NOBODY))[0], [0, 1])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"at_s": 1.0, "action": [0, 0]}], "begin with 0"),
        ([{"at_s": 0.0, "action": [0, 0]}, {"at_s": 0.0, "action": [0, 0]}], "grow"),
        ([{"at_s": 0.0, "action": [0, 0], "why": 1}], "expected one of at_s, action, got 'steps.0.why'"),
        ([], "at least 1"),
    ],
)
def test_a_malformed_schedule_is_refused(steps: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Schedule(steps=steps)


def test_recorded_rows_are_driven_frame_by_frame(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [(0.01 * k, 1.0) for k in range(6)]
    text = "frame,steering_rad,accel_mps2\n" + "".join(f"{k},{s},{a}\n" for k, (s, a) in enumerate(rows))
    (tmp_path / "drive.csv").write_text(text)
    table = pyarrow.table({"steering": [s for s, _ in rows], "accel": [a for _, a in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "drive.parquet")
    for name in ("drive.csv", "drive.parquet"):
        policy = load_policy(f"{tmp_path}/{name}?after=repeat").make()
        policy.reset(INFO)
        np.testing.assert_allclose(policy.act(NOBODY), rows[:4], rtol=1e-6)
        np.testing.assert_allclose(policy.act(NOBODY), [*rows[4:], rows[5], rows[5]], rtol=1e-6)


def test_rows_that_run_out_are_an_error_unless_they_may_repeat(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("dx,dy,dyaw\n1,0,0\n2,0,0\n")
    policy = Replay(str(path))
    policy.reset(INFO)
    assert policy.space == "pose_delta"
    with pytest.raises(PolicyError, match=r"at least 4 rows in .*short.csv, got 2"):
        policy.act(NOBODY)
    looping = Replay(str(path), after="loop")
    looping.reset(INFO)
    np.testing.assert_allclose(looping.act(NOBODY)[:, 0], [1, 2, 1, 2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "expected the columns steering, accel; .*got a, b"),
        ("steering,accel\nx,1\n", "numbers"),
        ("", "got"),
    ],
)
def test_a_file_without_actions_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(PolicySpecError, match=words):
        load_policy(str(path)).make()
