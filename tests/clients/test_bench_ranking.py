import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clients.ranking.bench import REFERENCE, drive, judge
from clients.ranking.correlation import agreement, compare, kendall, ranks, spearman, swaps
from clients.ranking.entrants import POLICIES, QUICK, SUITE, entrants
from clients.ranking.page import page
from worldmodel.scene.scenario import load_scenario

RNG = np.random.default_rng(0)
few = arrays(np.float64, 6, elements=st.integers(0, 4).map(float))


def scores(skill: np.ndarray, worlds: int = 12, noise: float = 0.02) -> np.ndarray:
    return np.clip(skill[:, None] + noise * RNG.normal(size=(len(skill), worlds)), 0, 1)


def test_ranks_share_their_mean_where_values_are_equal() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_correlations_are_those_of_the_textbook() -> None:
    # Kendall's own example has tau 0.11 without ties; with one tie tau-b of (1, 2, 2, 4) and (1, 3, 2, 4) is 5 / sqrt(30).
    a, b = np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert kendall(a, b) == pytest.approx(5 / np.sqrt(30))
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])) == pytest.approx(
        1 - 6 * 4 / (5 * 24)
    )


@given(few, few)
def test_correlations_are_symmetric_bounded_and_only_see_order(a: np.ndarray, b: np.ndarray) -> None:
    for measure in (spearman, kendall):
        value = measure(a, b)
        if np.isnan(value):
            assert len(set(a)) == 1 or len(set(b)) == 1
            continue
        assert -1 - 1e-9 <= value <= 1 + 1e-9
        assert measure(b, a) == pytest.approx(value)
        assert measure(np.exp(a), 3 * b - 1) == pytest.approx(value)
        assert measure(-a, b) == pytest.approx(-value)


def test_the_interval_is_narrow_where_policies_are_far_apart_and_wide_where_they_are_not() -> None:
    apart, close = np.linspace(0.1, 0.9, 8), np.linspace(0.49, 0.51, 8)
    clear = agreement(spearman, scores(apart), scores(apart))
    vague = agreement(spearman, scores(close, noise=0.2), scores(close, noise=0.2))
    assert clear.low > 0.9
    assert clear.low <= clear.value <= clear.high <= 1.0
    assert vague.high - vague.low > 0.5


def test_a_swap_is_named_with_how_sure_it_is() -> None:
    names = ["good", "middling", "bad"]
    found = swaps(names, scores(np.array([0.9, 0.6, 0.2])), scores(np.array([0.5, 0.8, 0.2])))
    assert [(swap.better, swap.worse, swap.sure) for swap in found] == [("good", "middling", True)]
    assert found[0].reference_gap == pytest.approx(0.3, abs=0.05)
    assert found[0].gap == pytest.approx(-0.3, abs=0.05)
    unsure = swaps(
        names, scores(np.array([0.51, 0.5, 0.1]), noise=0.3), scores(np.array([0.5, 0.5, 0.1]), noise=0.3)
    )
    assert not any(swap.sure for swap in unsure)


def test_those_that_look_are_told_apart() -> None:
    names = ["told", "told too", "sees", "sees less", "sees little"]
    skill = np.array([0.9, 0.1, 0.7, 0.5, 0.3])
    turned = skill.copy()
    turned[2:] = skill[:1:-1]
    found = compare(
        names, dict(zip(names, [False, False, True, True, True], strict=True)), scores(skill), scores(turned)
    )
    assert found["looking"]["spearman"] == -1.0
    assert found["spearman"] > 0
    assert len(found["swaps"]) == 3


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((1, 4), (1, 4)), ((3, 0), (3, 0))])
def test_scores_that_cannot_be_compared_are_refused(shapes) -> None:
    with pytest.raises(ValueError, match="expected scores of at least two policies in the same worlds"):
        agreement(spearman, *(np.zeros(shape) for shape in shapes))


def test_there_are_eight_policies_of_which_most_look_and_every_world_is_held_out() -> None:
    found = entrants()
    assert len(found) >= 8
    assert sum(entrant.looks for entrant in found) >= 5
    assert {e.name for e in found if not e.looks} == {
        "expert",
        "expert?noise=0.1",
        "lane_keeper",
        "constant_speed",
    }
    assert len({entrant.folder for entrant in found}) == len(found)
    for suite in (SUITE, QUICK):
        assert all(load_scenario(entry["scenario"]).split == "heldout" for entry in suite["scenarios"])
    with pytest.raises(ValueError, match="each once"):
        entrants([POLICIES[0], POLICIES[0]])


def results_of(**by: dict[str, dict[str, float]]) -> dict[str, Any]:
    return judge(entrants(["idle", "stop", "clients.policies.vision:Vision"]), by, QUICK)


def test_only_worlds_that_everybody_finished_everywhere_count() -> None:
    names = ("idle", "stop", "clients.policies.vision:Vision")
    whole = {name: {"a": 0.1 * k, "b": 0.2 * k, "c": 0.3} for k, name in enumerate(names)}
    short = {name: dict(rows) for name, rows in whole.items()}
    del short["stop"]["b"]
    found = results_of(reference=whole, exact=short)
    assert found["worlds"] == ["a", "c"]
    assert found["worlds_left_out"] == 1
    assert found["spearman"] == found["kendall"] == 1.0
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match="expected a world that every policy finished"):
        results_of(reference=whole, exact={name: {} for name in names})


def test_the_page_shows_every_policy_and_every_swap() -> None:
    names = ("idle", "stop", "clients.policies.vision:Vision")
    there = {name: {"a": 0.3 * k, "b": 0.2 * k} for k, name in enumerate(names)}
    here = {name: {"a": 0.3 * k, "b": 0.2 * k} for name, k in zip(names, (1, 0, 2), strict=True)}
    document = {
        "results": results_of(reference=there, exact=here),
        "config": {"metric": "pdms", "quick": True},
        "commit": "abc",
        "model_digest": "d" * 64,
        "hardware": {"cpu": "<cpu>", "cores": 2},
    }
    text = page(document)
    assert len(re.findall("<circle", text)) == 3
    assert "<td>stop</td><td>idle</td>" in text
    assert "proves nothing" in text
    assert "<cpu>" not in text


def test_policies_drive_a_suite_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    suite = {
        "name": "little",
        "rig": "front1",
        "scenarios": [{"scenario": "zero-short"}, {"scenario": "zero", "max_s": 1.0}],
    }
    told: list[str] = []
    chosen = entrants(["idle", "constant?accel=1"])
    arguments = (tmp_path, chosen, suite, "zero", (), {None: REFERENCE}, 2, "route_completion", told.append)
    scores_, _ = drive(*arguments)
    assert scores_[REFERENCE]["idle"].keys() == scores_[REFERENCE]["constant?accel=1"].keys()
    assert len(scores_[REFERENCE]["idle"]) == 2
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/traces/*")}
    assert drive(*arguments)[0] == scores_
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/traces/*")}
    assert len(told) == 4
