"""The expert on a scenario, from start to end, with its scores: what the catalogue is held to."""

from dataclasses import dataclass

from .expert import Expert
from .scenario import load_scenario
from .scene import Scene
from .scores import EpisodeRecord, EpisodeScores, score_episode


@dataclass(frozen=True)
class Trial:
    """One drive of the expert."""

    scenario: str
    seed: int
    reason: str  # why it ended
    scores: EpisodeScores

    @property
    def violations(self) -> tuple[str, ...]:
        """What went wrong: contacts at fault, red lights, leaving the road, wrong way, or not arriving."""
        scores = self.scores
        found = {
            "collision": scores.contacts_at_fault > 0,
            "red light": scores.red_lights > 0,
            "off road": scores.off_road_share > 0.0,
            "wrong way": scores.wrong_way_share > 0.0,
            "time limit": scores.outcome == "timeout",
            "off route": self.reason == "off_route",
        }
        return tuple(name for name, happened in found.items() if happened)


def run_trial(scenario: str, seed: int) -> Trial:
    """Let the expert drive a scenario (a preset's name or a file) until its outcome."""
    scene = Scene(load_scenario(scenario), seed)
    expert = Expert(scene)
    record = EpisodeRecord.start(scene.path, scene.frame, scene.checks[0])
    while scene.outcome == "running":
        for frame, checks in zip(scene.step(expert.act()), scene.checks, strict=True):
            record.add(frame, checks)
    record.outcome = scene.outcome
    return Trial(scenario, seed, scene.reason, score_episode(record))
