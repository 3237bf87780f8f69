from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from clients.gym import ENV_ID, DriveVectorEnv

Make = Callable[..., Any]
MODES = list(AutoresetMode)


@pytest.fixture
def choices(zero_url: str) -> dict[str, Any]:
    return {
        "url": zero_url,
        "scenario": "zero-short",
        "rig": "front1",
        "encoding": "raw",
        "image_size": (36, 64),
    }


@pytest.fixture
def make(choices: dict[str, Any]) -> Iterator[Make]:
    """Makes vector environments that are closed with the test."""
    made: list[Any] = []

    def build(num_envs: int = 3, **more: Any) -> Any:
        made.append(gymnasium.make_vec(ENV_ID, num_envs, **choices | more))
        return made[-1]

    yield build
    for envs in made:
        envs.close()


@pytest.mark.parametrize("mode", MODES)
def test_it_equals_gymnasiums_own_vector_of_single_ones(
    make: Make, choices: dict[str, Any], mode: AutoresetMode
) -> None:
    ours = make(autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: gymnasium.make(ENV_ID, **choices)] * 3, autoreset_mode=mode)
    for name in ("num_envs", "observation_space", "single_observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert data_equivalence(ours.reset(seed=4), theirs.reset(seed=4), exact=True)
    ours.action_space.seed(0)
    for _ in range(9):
        actions = ours.action_space.sample()
        got, expected = ours.step(actions), theirs.step(actions)
        assert data_equivalence(got, expected, exact=True)
        done = got[2] | got[3]
        if mode is AutoresetMode.DISABLED and done.any():
            options = {"reset_mask": done}
            assert data_equivalence(
                ours.reset(options=dict(options)), theirs.reset(options=dict(options)), exact=True
            )
    theirs.close()


def stagger(envs: Any) -> None:
    """Bring worlds to 1, 2 and 3 chunks before their end."""
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    for k, extra in ((0, 1), (2, -1)):
        mask = np.arange(3) == k
        if extra < 0:
            envs.reset(options={"reset_mask": mask})
        else:
            envs._fleet.step([k], np.zeros((1, 2), np.float32), envs._fleet.fresh())


def chunks(envs: Any) -> list[int]:
    return [slot.seen.chunk for slot in envs._fleet.slots]


def test_next_step_mode_begins_anew_with_the_step_after(make: Make) -> None:
    envs = make(autoreset_mode="NextStep")
    stagger(envs)
    act = np.zeros((3, 2), np.float32)
    ended = []
    for expected in ([2, 1, 0], [-1, 2, 1], [0, -1, 2], [1, 0, -1]):
        _, rewards, terminated, truncated, infos = envs.step(act)
        assert chunks(envs) == expected
        assert [bool(reward) for reward in rewards] == [chunk >= 0 for chunk in expected]
        assert not truncated.any()
        assert "final_obs" not in infos
        ended.append(terminated.tolist())
    assert ended == [[True, False, False], [False, True, False], [False, False, True], [False] * 3]


def test_same_step_mode_begins_anew_at_once_and_keeps_the_last_observation(make: Make) -> None:
    envs = make(autoreset_mode="SameStep")
    stagger(envs)
    act = np.full((3, 2), 0.5, np.float32)
    for expected, ends in (([-1, 1, 0], 0), ([0, -1, 1], 1), ([1, 0, -1], 2), ([-1, 1, 0], 0)):
        seen, rewards, terminated, _, infos = envs.step(act)
        assert chunks(envs) == expected
        assert np.flatnonzero(terminated).tolist() == np.flatnonzero(infos["_final_obs"]).tolist() == [ends]
        assert rewards.all()
        final = infos["final_obs"][ends]
        assert final in envs.single_observation_space
        assert not np.array_equal(final["ego"], seen["ego"][ends])
        assert infos["final_info"]["outcome"][ends] == "success"


def test_disabled_mode_begins_only_what_the_mask_says(make: Make) -> None:
    envs = make(autoreset_mode="Disabled")
    stagger(envs)
    seen, _, terminated, _, _ = envs.step(np.zeros((3, 2), np.float32))
    again, infos = envs.reset(options={"reset_mask": terminated})
    assert chunks(envs) == [-1, 1, 0]
    assert infos["_chunk"].tolist() == [True, False, False]
    for name, rows in again.items():
        assert np.array_equal(rows[1:], seen[name][1:])


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_is_in_metadata_and_attribute(make: Make, mode: AutoresetMode) -> None:
    for spelled in (mode, mode.value):
        envs = make(1, autoreset_mode=spelled)
        assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is mode
    assert DriveVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_seeds_count_up_or_are_listed_and_stay(make: Make) -> None:
    envs = make()
    _, infos = envs.reset(seed=42)
    assert envs.np_random_seed == (42, 43, 44)
    assert infos["world_seed"].tolist() == [42, 43, 44]
    envs.reset()
    assert envs.np_random_seed == (42, 43, 44)
    assert envs.reset(seed=[5, None, 7])[1]["world_seed"][[0, 2]].tolist() == [5, 7]
    assert envs.np_random_seed == (5, 43, 7)
    assert len({rng.integers(2**31) for rng in make().np_random}) == 3


def test_all_worlds_share_one_socket(make: Make) -> None:
    envs = make(5)
    client = envs._fleet.link.client
    assert len({session.name for session in client.sessions}) == 5
    assert all(session._client is client for session in client.sessions)


def test_what_was_handed_out_is_never_touched_again(make: Make) -> None:
    envs = make(autoreset_mode="SameStep", frame_stack=2)
    act = np.zeros((3, 2), np.float32)
    kept = [envs.reset(seed=0)[0], *(envs.step(act)[0] for _ in range(4))]
    copies = [{name: rows.copy() for name, rows in seen.items()} for seen in kept]
    for rows in kept[-1].values():
        rows[...] = 0
    for _ in range(4):
        envs.step(act)
    assert data_equivalence(kept[:-1], copies[:-1], exact=True)


def test_a_step_limit_truncates(make: Make) -> None:
    envs = make(scenario="zero", max_episode_steps=2)
    envs.reset(seed=0)
    act = np.zeros((3, 2), np.float32)
    assert [envs.step(act)[3].all() for _ in range(5)] == [False, True, False, False, True]


def test_wrappers_of_gymnasium_work(make: Make) -> None:
    envs = RecordEpisodeStatistics(make(autoreset_mode="SameStep"))
    envs.reset(seed=0)
    for _ in range(3):
        infos = envs.step(np.zeros((3, 2), np.float32))[4]
    assert infos["episode"]["l"].tolist() == [3, 3, 3]
    listed = DictInfoToList(make())
    assert [info["chunk"] for info in listed.reset(seed=0)[1]] == [-1] * 3


def test_every_world_is_rendered(make: Make) -> None:
    envs = make(render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        envs.render()
    envs.reset(seed=0)
    assert [picture.shape for picture in envs.render()] == [(128, 224, 3)] * 3
    assert make().render() is None


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False, False], TypeError),
        (np.array([1, 0, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.array([[True, True, True]]), ValueError),
        (np.zeros(3, np.bool_), ValueError),
    ],
)
def test_wrong_masks_are_refused(make: Make, mask: Any, error: type[Exception]) -> None:
    envs = make()
    envs.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_wrong_calls_are_refused(make: Make) -> None:
    envs = make()
    with pytest.raises(ResetNeeded, match="every world"):
        envs.reset(options={"reset_mask": np.array([True, True, False])})
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="expected 3 seeds, got 2"):
        envs.reset(seed=[1, 2])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="expected 3 actions, got 2"):
        envs.step(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="expected at least one environment"):
        make(0)
    with pytest.raises(ValueError, match="expected a render_mode of rgb_array or None"):
        make(render_mode="human")
    envs.close()
    envs.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.unwrapped.step(np.zeros((3, 2), np.float32))
