"""What `roadloop play` chooses by itself."""

import pytest

from server import preset
from server.play import PlayChoices, plan_of

WITH_SCENES = {
    "scenarios": ["country_road", "highway_cut_in", "urban_cruise"],
    "tiers": ["exact", "safe", "balanced"],
}
WITHOUT = {"scenarios": ["zero", "zero-short"], "tiers": ["exact"]}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No GPU and no weights, until a test says otherwise."""
    monkeypatch.setattr(preset, "gpu_name", lambda: None)
    monkeypatch.setattr(preset, "shipped_weights", list)
    return monkeypatch


def test_without_weights_the_reference_engine_runs_and_that_is_said(machine: pytest.MonkeyPatch) -> None:
    chosen = preset.choose_preset()
    assert (chosen.engine, chosen.workers) == ("reference", ("cpu:1",))
    assert "no weights" in chosen.words
    assert "the CPU (no CUDA device was found)" in chosen.words


def test_with_weights_and_a_gpu_the_world_model_runs_there_beside_the_reference(
    machine: pytest.MonkeyPatch,
) -> None:
    machine.setattr(preset, "gpu_name", lambda: "Fast One")
    machine.setattr(preset, "shipped_weights", lambda: ["S"])
    chosen = preset.choose_preset()
    assert (chosen.engine, chosen.workers) == ("worldmodel", ("worldmodel=cuda:0", "reference=cpu:1"))
    assert "Fast One" in chosen.words
    assert preset.choose_preset(device="cpu").workers == ("worldmodel=cpu:1", "reference=cpu:1")


def test_an_engine_that_was_asked_for_runs_alone(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(preset, "shipped_weights", lambda: ["S"])
    assert preset.choose_preset("reference").workers == ("cpu:1",)


def test_the_demo_drives_what_is_offered_in_the_balanced_tier() -> None:
    plan = plan_of(PlayChoices(), WITH_SCENES)
    assert list(plan.scenarios) == ["highway_cut_in", "urban_cruise"]
    assert plan.choices == {"options": {"tier": "balanced"}}
    plan = plan_of(PlayChoices(), WITHOUT)
    assert (list(plan.scenarios), plan.choices) == (["zero", "zero-short"], {"options": {"tier": "exact"}})


def test_what_was_asked_for_is_driven() -> None:
    asked = PlayChoices(scenarios=("country_road",), seed=7, rig="front1", tier="safe")
    plan = plan_of(asked, WITH_SCENES)
    assert (list(plan.scenarios), plan.seed) == (["country_road"], 7)
    assert plan.choices == {"options": {"tier": "safe"}, "rig": "front1"}
    assert list(plan_of(PlayChoices(scenarios=("all",)), WITH_SCENES).scenarios) == WITH_SCENES["scenarios"]


def test_an_unknown_scenario_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="expected scenarios of zero, zero-short, or all, got moon"):
        plan_of(PlayChoices(scenarios=("moon",)), WITHOUT)
