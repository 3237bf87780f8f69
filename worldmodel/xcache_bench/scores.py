"""What a method cost and what it saved on one drive. No PSNR without motion beside it."""

from typing import Any, NamedTuple

import torch

from ..benchmarking import percentiles
from ..fidelity import motion_energy, psnr, recover_ego_motion, ssim
from ..scene.clock import FRAMES_PER_CHUNK
from ..scene.state import pose_delta
from .race import Run
from .scenes import Drive

MOVING_M, TURNING_RAD = 0.05, 0.01  # per frame; smaller true motion does not divide an error


class Motion(NamedTuple):
    """Relative errors of the recovered ego motion."""

    speed_error: float
    yaw_rate_error: float


class Standard(NamedTuple):
    """What a run is held against."""

    full: Run  # full compute that samples alike: the cache's own contribution
    base: Run  # full compute with the race's own number of steps: what everything costs and saves
    drive: Drive  # the truth


def score(
    run: Run, standard: Standard, motion_chunks: int, work: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of one contestant and drive, and its rows per chunk.

    Args:
        run: the contestant's.
        standard: of the same race.
        motion_chunks: how many chunks the ego motion is read back from, the last ones.
        work: share of the blocks' arithmetic that was skipped, from `skipped_work`.
    """
    full, base, drive = standard
    chunks = len(drive.actions)
    made, exact, first = (torch.cat(each.frames, 1) for each in (run, full, base))  # V F H W 3
    true = drive.frames[:, : made.shape[1]]
    per_chunk = [_chunk_row(k, made, exact, true, run) for k in range(chunks)]
    speed, yaw = _motion_errors(made, drive, motion_chunks)
    row = {
        "skip": run.skip,
        "skipped_work": work,
        **_speeds(run, full, base, work),
        **percentiles(run.chunk_ms, "chunk"),
        "psnr_full": _pooled_psnr(made[:, 1:], exact[:, 1:]),
        **{name: _mean(per_chunk, name) for name in ("ssim_full", "psnr_reference", "ssim_reference")},
        "true_cost_db": float((psnr(first[:, 1:], true[:, 1:]) - psnr(made[:, 1:], true[:, 1:])).mean()),
        "speed_error": speed,
        "yaw_rate_error": yaw,
        "motion_energy_ratio": float(motion_energy(made) / motion_energy(true).clamp_min(1e-6)),
        "cache_mb": max((cache["bytes"] for cache in run.caches if cache is not None), default=0) / 2**20,
        "chunks": chunks,
    }
    return row, per_chunk


def _speeds(run: Run, full: Run, base: Run, work: float) -> dict[str, float]:
    """Speed-ups over `base`; what the skipped work implies for the denoising passes over `full`, and how much was reached."""
    implied = 1.0 / (1.0 - work)
    own = sum(full.denoise_ms) / sum(run.denoise_ms)
    gate_ms = sum(cache["gate_us"] for cache in run.caches if cache is not None) / 1e3
    return {
        "speedup_denoise": sum(base.denoise_ms) / sum(run.denoise_ms),
        "speedup_dit": sum(base.dit_ms) / sum(run.dit_ms),
        "speedup_chunk": sum(base.chunk_ms) / sum(run.chunk_ms),
        "speedup_cache": own,
        "speedup_implied": implied,
        "reached": own / implied,
        "gate_overhead": gate_ms / sum(full.denoise_ms),
    }


def _chunk_row(
    k: int, made: torch.Tensor, exact: torch.Tensor, true: torch.Tensor, run: Run
) -> dict[str, Any]:
    span = slice(1 + FRAMES_PER_CHUNK * k, 1 + FRAMES_PER_CHUNK * (k + 1))
    mine, full, truth = made[:, span], exact[:, span], true[:, span]
    cache = run.caches[k]
    by_camera = psnr(mine, full).mean(1)
    return {
        "chunk": k,
        "skip": 0.0 if cache is None else cache["skip"],
        "psnr_full": float(by_camera.mean()),
        "psnr_full_by_camera": by_camera.tolist(),
        "ssim_full": float(ssim(mine, full).mean()),
        "psnr_reference": float(psnr(mine, truth).mean()),
        "ssim_reference": float(ssim(mine, truth).mean()),
    }


def _motion_errors(made: torch.Tensor, drive: Drive, chunks: int) -> Motion:
    """Ego motion read back from one pair of frames inside each of the last chunks, against the true motion."""
    found, wanted = [], []
    for k in range(max(0, len(drive.actions) - chunks), len(drive.actions)):
        last = FRAMES_PER_CHUNK * (k + 1)
        pair = slice(last - 1, last + 1)
        motion = recover_ego_motion(made[:, pair], drive.depth_m[k], drive.rig)
        found.append(torch.stack([motion.forward_m[0], motion.yaw_rad[0]]))
        delta = pose_delta(drive.states[last - 1].ego, drive.states[last].ego)
        wanted.append(torch.tensor([float(delta[0]), float(delta[2])]))
    error = (torch.stack(found) - torch.stack(wanted)).abs().mean(0)
    size = torch.stack(wanted).abs().mean(0).clamp_min(torch.tensor([MOVING_M, TURNING_RAD]))
    return Motion(*(error / size).tolist())


def _pooled_psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """PSNR of the mean squared error over everything: chunks that are equal, and so infinitely alike, do not lift it."""
    return float(psnr(a.reshape(-1, a.shape[-2], 3), b.reshape(-1, b.shape[-2], 3)))


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
