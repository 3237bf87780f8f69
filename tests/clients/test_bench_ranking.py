import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clients.eval.runner import RunError
from clients.ranking.correlation import agreement, compare, kendall, ranks, spearman, swaps
from clients.ranking.entrants import POLICIES, QUICK, SUITE, entrants
from clients.ranking.judge import REFERENCE, judge
from clients.ranking.page import page
from clients.ranking.tournament import Simulator, Tournament
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
    found = compare(names, [False, False, True, True, True], scores(skill), scores(turned))
    assert (found["all"]["count"], found["looking"]["count"]) == (5, 3)
    assert found["looking"]["spearman"] == -1.0
    assert found["all"]["spearman"] > 0
    assert len(found["looking"]["swaps"]) == 3


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((1, 4), (1, 4)), ((3, 0), (3, 0))])
def test_scores_that_cannot_be_compared_are_refused(shapes) -> None:
    with pytest.raises(ValueError, match="expected scores of at least two policies in the same worlds"):
        agreement(spearman, *(np.zeros(shape) for shape in shapes))


def test_eight_policies_look_and_every_world_is_held_out() -> None:
    found = entrants()
    assert sum(entrant.looks for entrant in found) >= 8
    assert [entrant.name for entrant in found if not entrant.looks] == [
        "expert",
        "lane_keeper",
        "constant_speed",
        "vision?blind=true",
    ]
    assert len({entrant.folder for entrant in found}) == len(found)
    for suite in (SUITE, QUICK):
        assert all(load_scenario(entry["scenario"]).split == "heldout" for entry in suite["scenarios"])
    with pytest.raises(ValueError, match="each once"):
        entrants([POLICIES[0], POLICIES[0]])


LOOKING = ("stop", "vision", "vision?noise_mps2=1", "vision?stage=3")


def rows(**by_world: float) -> dict[str, dict[str, float]]:
    """The same score in both metrics."""
    return {world: {"driving_score": value, "pdms": value} for world, value in by_world.items()}


def results_of(**by: dict[str, Any]) -> dict[str, Any]:
    return judge(entrants(LOOKING), by)


def test_only_worlds_that_everybody_finished_everywhere_count() -> None:
    whole = {name: rows(a=0.1 * k, b=0.2 * k, c=0.3) for k, name in enumerate(LOOKING)}
    short = {name: dict(found) for name, found in whole.items()}
    del short["stop"]["b"]
    found = results_of(reference=whole, exact=short)
    assert found["worlds"] == ["a", "c"]
    assert found["worlds_left_out"] == 1
    assert found["count"] == 3
    assert found["spearman"] == found["kendall"] == 1.0
    assert found["by_metric"]["pdms"]["exact"]["all"]["count"] == 4
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match="expected a world that every policy finished"):
        results_of(reference=whole, exact={name: {} for name in LOOKING})


def test_scores_that_are_all_equal_have_no_correlation() -> None:
    equal = {name: rows(a=0.5, b=0.5) for name in LOOKING}
    assert results_of(reference=equal, exact=equal)["spearman"] is None


def test_one_world_has_no_interval_and_makes_nothing_sure() -> None:
    there, here = np.array([[0.9], [0.1], [0.5]]), np.array([[0.1], [0.9], [0.5]])
    found = agreement(spearman, there, here)
    assert found.value == -1.0
    assert np.isnan([found.low, found.high]).all()
    assert not any(swap.sure for swap in swaps(["a", "b", "c"], there, here))


def test_a_ranking_needs_policies_that_look() -> None:
    told = {name: rows(a=0.5) for name in ("stop", "idle")}
    with pytest.raises(ValueError, match="expected at least two policies that look at pictures, got 0"):
        judge(entrants(["stop", "idle"]), {"reference": told, "exact": told})


def test_the_page_shows_every_policy_and_every_swap() -> None:
    there = {name: rows(a=0.3 * k, b=0.2 * k) for k, name in enumerate(LOOKING)}
    here = {name: rows(a=0.3 * k, b=0.2 * k) for name, k in zip(LOOKING, (1, 2, 0, 3), strict=True)}
    document = {
        "results": results_of(reference=there, exact=here),
        "config": {"quick": True},
        "commit": "abc",
        "model_digest": "d" * 64,
        "hardware": {"cpu": "<cpu>", "cores": 2},
    }
    text = page(document)
    assert len(re.findall("<circle", text)) == 2 * len(LOOKING)  # one plot per metric
    assert "<td>vision?noise_mps2=1</td><td>vision</td>" in text
    assert "proves nothing" in text
    assert "<cpu>" not in text


SUITE_OF_NOTHING = {
    "name": "little",
    "rig": "front3",
    "repeats": 2,
    "options": {"cameras": ["front_wide", "side_front_left"]},
    "scenarios": [{"scenario": "zero-short", "max_s": 0.7}, {"scenario": "zero", "max_s": 1.0}],
}


def tournament(folder: Path, url: str, told: list[str]) -> Tournament:
    chosen = entrants(["idle", "constant?accel=1"])
    both = [Simulator(REFERENCE, url), Simulator("exact", url, "exact")]
    return Tournament(folder, SUITE_OF_NOTHING, both, chosen, slots=3, tell=told.append)


def test_everybody_drives_everywhere_and_goes_on_where_it_stopped(tmp_path: Path, zero_url: str) -> None:
    told: list[str] = []
    first = tournament(tmp_path, zero_url, told).drive()
    assert list(first) == [REFERENCE, "exact"]
    assert all(set(by) == {"idle", "constant?accel=1"} for by in first.values())
    assert {len(found) for by in first.values() for found in by.values()} == {4}
    assert first["exact"] == first[REFERENCE]
    assert first["exact"]["idle"] != first["exact"]["constant?accel=1"]
    assert len([line for line in told if line.endswith("all have driven")]) == 4
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/traces/*")}
    assert len(written) == 16
    lost = next(iter(written)).parents[1]
    shutil.rmtree(lost)
    assert tournament(tmp_path, zero_url, told).drive() == first
    again = {path: path.stat().st_mtime_ns for path in written}
    assert {path for path in written if again[path] != written[path]} == set(lost.glob("traces/*"))


def test_time_that_is_up_leaves_a_smaller_suite(tmp_path: Path, zero_url: str) -> None:
    told: list[str] = []
    run = tournament(tmp_path, zero_url, told)
    assert [plan.scenario for plan in run.worlds] == ["zero-short", "zero", "zero-short", "zero"]
    scores = run.drive(minutes=1e-9)
    assert {tuple(found) for by in scores.values() for found in by.values()} == {(run.worlds[0].world,)}
    assert "1 of 4 worlds" in told[-2] + told[-1]


def test_who_does_not_look_is_shown_one_camera(tmp_path: Path, zero_url: str) -> None:
    run = tournament(tmp_path, zero_url, [])
    run.drive(minutes=1e-9)
    trace = json.loads((run.folder / run.worlds[0].world / "exact" / "idle" / "run.json").read_text())
    assert trace["suite"]["options"] == {"cameras": ["front_wide"], "tier": "exact"}


def test_the_first_error_ends_it(tmp_path: Path, zero_url: str) -> None:
    run = Tournament(
        tmp_path,
        {**SUITE_OF_NOTHING, "scenarios": ["moon", {"scenario": "zero", "max_s": 1.0}]},
        [Simulator(REFERENCE, zero_url)],
        entrants(["idle", "stop"]),
    )
    with pytest.raises(RunError, match="expected a scenario of zero"):
        run.drive()
