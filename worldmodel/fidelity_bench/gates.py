"""What the numbers must reach, as one list of claims that hold or do not."""

from typing import Any, NamedTuple

FLAT_DB = 2.0  # a rollout is flat when 60 s are at most this below 5 s


class Gate(NamedTuple):
    """One claim. `holds` is None where nothing was measured."""

    name: str
    value: float | None
    wanted: str
    holds: bool | None


def gates(results: dict[str, Any]) -> list[Gate]:
    """All gates of a report."""
    psnr, drift = results["rollout_psnr"], results["latent_drift"]
    last = max(psnr, key=float)
    lost = results["one_chunk_tokenizer_psnr"] - results["one_chunk_psnr"]
    return [
        _least("tokeniser PSNR [dB]", results["tokenizer_psnr"], 30),
        _most("lost one chunk ahead [dB]", lost, 3),
        _least("PSNR after 60 s [dB]", psnr.get("60"), 22),
        _most("PSNR lost from 5 to 60 s [dB]", _minus(psnr.get("5"), psnr.get("60")), FLAT_DB),
        _within(f"latent spread after {last} s", drift[last]["std_ratio"], 0.8, 1.25),
        _least("above copying the first frame, least [dB]", _lead(results, "copy_last_frame_psnr"), 0),
        _least("above the bare warp, least [dB]", _lead(results, "bare_warp_psnr"), 0),
        _within("motion energy ratio", results["motion_energy_ratio"], 0.8, 1.25),
        _most("speed error", results.get("speed_error"), 0.1),
        _most("yaw rate error", results.get("yaw_rate_error"), 0.1),
        _least("counterfactual pairs right", results["counterfactual_correct"], 0.95),
        _least("error with another action, ratio", results["action_shuffle_ratio"], 1.3),
        _most("cross-view error ratio", results["cross_view_error_ratio"], 1.3),
        _most("SSIM loss of 4 steps over 8", _ssim_loss(results["steps"]), 1.05),
        _least("road users that appear", results["agents_present"], 0.9),
    ]


def _lead(results: dict[str, Any], baseline: str) -> float:
    """The smallest distance above a baseline, over one chunk ahead and all horizons."""
    made = {"chunk": results["one_chunk_psnr"], **results["rollout_psnr"]}
    return min(made[h] - other for h, other in results[baseline].items())


def _ssim_loss(steps: dict[str, Any]) -> float | None:
    four, eight = steps.get("4"), steps.get("8")
    return (1 - four["ssim"]) / (1 - eight["ssim"]) if four and eight else None


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _least(name: str, value: float | None, bound: float) -> Gate:
    return Gate(name, value, f">= {bound:g}", None if value is None else value >= bound)


def _most(name: str, value: float | None, bound: float) -> Gate:
    return Gate(name, value, f"<= {bound:g}", None if value is None else value <= bound)


def _within(name: str, value: float | None, low: float, high: float) -> Gate:
    return Gate(name, value, f"{low:g} to {high:g}", None if value is None else low <= value <= high)
