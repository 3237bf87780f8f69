"""What one chunk of a rollout is worth, and many of them together. No PSNR without motion beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..fidelity import (
    MOVING_M,
    TURNING_RAD,
    agents_present,
    cross_view_error,
    mean_square,
    motion_energy,
    psnr_of,
    recover_ego_motion,
    relative_error,
    ssim,
)
from ..model.tokenizer import Tokenizer
from ..scene.state import pose_delta
from .drives import Truth, Window


@dataclass(frozen=True)
class Reconstruction:
    """What the tokeniser alone makes of a window's chunk: the ceiling."""

    frames: Tensor  # uint8 [V, 4, H, W, 3], the decoder guided by the layout
    unguided: Tensor
    latent: Tensor  # [V, C, h, w]


@torch.no_grad()
def reconstruct(tokenizer: Tokenizer, window: Window) -> Reconstruction:
    """Encode and decode a chunk of the truth."""
    latent = encode(tokenizer, window.frames[:, 1:])
    weight = next(tokenizer.parameters())
    guide = window.layout.to(weight.device)
    decoded = (tokenizer.decode(latent.to(weight), guide), tokenizer.decode(latent.to(weight)))
    guided, unguided = ((t.float().clamp(0, 1) * 255).round().byte().movedim(2, -1).cpu() for t in decoded)
    return Reconstruction(guided, unguided, latent.cpu())


@torch.no_grad()
def encode(tokenizer: Tokenizer, frames: Tensor) -> Tensor:
    """uint8 [V, 4, H, W, 3] -> standardised latents float32 [V, C, h, w]."""
    weight = next(tokenizer.parameters())
    return tokenizer.encode(frames.movedim(-1, 2).to(weight) / 255).float()


def ceiling_row(window: Window, truth: Truth, own: Reconstruction) -> dict[str, float]:
    """What does not depend on the generator: baselines, the tokeniser's errors, the true motion."""
    true = window.frames[:, 1:]
    return {
        "tokenizer": mean_square(own.frames, true),
        "tokenizer_unguided": mean_square(own.unguided, true),
        "copy": mean_square(truth.opening[:, None].expand_as(true), true),
        "warp": mean_square(window.warped, true),
        "cross_view": cross_view_error(own.frames[:, -1], window.depth_m[-1], truth.rig),
        "latent_std": float(own.latent.std()),
        "latent_mean": float(own.latent.mean()),
    }


def window_row(
    made: Tensor, window: Window, truth: Truth, tokenizer: Tokenizer, motion: bool = True
) -> dict[str, float]:
    """What a generated chunk, uint8 [V, 5, H, W, 3], is worth; `motion` reads the ego motion back, which takes a second."""
    own, true = made[:, 1:], window.frames[:, 1:]
    latent = encode(tokenizer, own)
    present, visible = agents_present(
        made[:, -1],
        window.frames[:, -1],
        window.empty,
        truth.rig.cameras,
        window.states[-1].ego,
        window.states[-1].agents,
    )
    row = {
        "error": mean_square(own, true),
        "ssim": float(ssim(own, true).mean()),
        "motion": float(motion_energy(own)),
        "true_motion": float(motion_energy(true)),
        "border": float(motion_energy(made[:, :2])),
        "true_border": float(motion_energy(window.frames[:, :2])),
        "cross_view": cross_view_error(made[:, -1], window.depth_m[-1], truth.rig),
        "latent_std": float(latent.std()),
        "latent_mean": float(latent.mean()),
        "present": float(present),
        "visible": float(visible),
    }
    return row | (ego_motion_row(made, window, truth) if motion else {})


def ego_motion_row(made: Tensor, window: Window, truth: Truth) -> dict[str, float]:
    """Ego motion between the last two frames, read back and as it was commanded."""
    moved = recover_ego_motion(made[:, -2:], window.standing_depth_m, truth.rig)
    delta = pose_delta(window.states[-2].ego, window.states[-1].ego)
    return {
        "forward": float(moved.forward_m[0]),
        "yaw": float(moved.yaw_rad[0]),
        "true_forward": float(delta[0]),
        "true_yaw": float(delta[2]),
    }


def summary(rows: Sequence[dict[str, float]], ceilings: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Rows of several drives and chunks as one: errors pooled, ratios of sums."""

    def total(name: str, of: Sequence[dict[str, float]] = rows) -> float:
        return sum(row[name] for row in of)

    known = [(r, c) for r, c in zip(rows, ceilings, strict=True) if c["cross_view"] == c["cross_view"]]
    seen = [row for row in rows if "forward" in row]
    result: dict[str, Any] = {
        "psnr": psnr_of([row["error"] for row in rows]),
        "ssim": total("ssim") / len(rows),
        "tokenizer_psnr": psnr_of([row["tokenizer"] for row in ceilings]),
        "copy_last_frame_psnr": psnr_of([row["copy"] for row in ceilings]),
        "bare_warp_psnr": psnr_of([row["warp"] for row in ceilings]),
        "motion_energy_ratio": total("motion") / max(total("true_motion"), 1e-6),
        "border_motion_ratio": total("border") / max(total("true_border"), 1e-6),
        "cross_view_error_ratio": _ratio(
            sum(r["cross_view"] for r, _ in known), sum(c["cross_view"] for _, c in known)
        ),
        "latent_std_ratio": total("latent_std") / total("latent_std", ceilings),
        "latent_mean_shift": (total("latent_mean") - total("latent_mean", ceilings)) / len(rows),
        "agents_present": _ratio(total("present"), total("visible")),
        "chunks": len(rows),
    }
    if seen:
        result["speed_error"] = _motion_error(seen, "forward", MOVING_M)
        result["yaw_rate_error"] = _motion_error(seen, "yaw", TURNING_RAD)
    return result


def _motion_error(rows: Sequence[dict[str, float]], name: str, floor: float) -> float:
    return relative_error([row[name] for row in rows], [row[f"true_{name}"] for row in rows], floor)


def _ratio(value: float, base: float) -> float | None:
    return value / base if base > 0 else None


def shuffle_ratio(pairs: Sequence[dict[str, Any]]) -> float | None:
    """Error of pictures against the truth of the other command, over that against their own: how much actions matter."""
    own = sum(pair["own"] for pair in pairs)
    return sum(pair["other"] for pair in pairs) / own if own else None
