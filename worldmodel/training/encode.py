"""Run a tokeniser over clips once, so that training the dynamics never does."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..model.config import FRAMES
from ..model.tokenizer import Tokenizer
from .clips import Clip, ClipError
from .rollout import reduce

KEEP = 16  # latent frames encoded at once: bounds memory


def encode_clip(clip: Clip, tokenizer: Tokenizer, digest: str, keep_frames: bool) -> Clip:
    """Add latents, stills and history to a clip; its folder says which tokeniser made them.

    Args:
        clip: with frames.
        tokenizer: in eval mode.
        digest: of the tokeniser's checkpoint.
        keep_frames: held-out clips keep their frames, to be compared with.
    """
    frames = clip.arrays.frames
    if frames is None:
        raise ClipError(f"expected frames in {clip.folder}, got none")
    latents, last = encode_frames(tokenizer, frames, np.arange(1, len(frames)).reshape(-1, FRAMES))
    boundaries = np.arange(0, len(frames), FRAMES)
    stills, first = encode_frames(tokenizer, frames, np.repeat(boundaries[:, None], FRAMES, axis=1))
    history = torch.cat([first[:1], last])  # what a session sees: the tokeniser's own pictures
    _replace(clip.folder / "stills.npy", stills.half().numpy())
    _replace(clip.folder / "history.npy", (history.clamp(0, 1) * 255).round().byte().numpy())
    (clip.folder / "tokenizer.txt").write_text(digest)
    _replace(clip.folder / "latents.npy", latents.half().numpy())  # last: marks the clip as encoded
    if not keep_frames:
        (clip.folder / "frames.npy").unlink()
    return Clip(clip.folder)


@torch.no_grad()
def encode_frames(tokenizer: Tokenizer, frames: np.ndarray, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Encode groups of four images.

    Args:
        tokenizer: in eval mode.
        frames: uint8 [F, V, H, W, 3].
        images: int [T, 4].

    Returns:
        Latents [T, V, C, h, w] and the last decoded image at raster resolution [T, V, 3, H / 4, W / 4].
    """
    latents, last = [], []
    dtype = tokenizer.encoder.layers[0].weight.dtype
    for part in np.array_split(images, max(1, len(images) // KEEP)):
        pixels = torch.from_numpy(frames[part]).permute(0, 2, 1, 5, 3, 4).to(dtype) / 255  # T V F 3 H W
        z = tokenizer.encode(pixels)
        latents.append(z.float())
        last.append(reduce(tokenizer.decode(z)[:, :, -1].float()))
    return torch.cat(latents), torch.cat(last)


def encode_clips(
    clips: Sequence[Clip], tokenizer: Tokenizer, digest: str, keep_frames: bool
) -> int:
    """Encode all clips that this tokeniser has not encoded yet; returns how many those were."""
    todo = [clip for clip in clips if encoded_by(clip) != digest]
    for clip in todo:
        encode_clip(clip, tokenizer, digest, keep_frames)
    return len(todo)


def encoded_by(clip: Clip) -> str | None:
    """Digest of the tokeniser that encoded a clip."""
    path = clip.folder / "tokenizer.txt"
    return path.read_text() if clip.encoded and path.is_file() else None


def _replace(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
