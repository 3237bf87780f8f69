"""Run a tokeniser over clips once, so that training the dynamics never does."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..model.config import FRAMES
from ..model.precision import fast_autocast
from ..model.tokenizer import Tokenizer
from .clips import Clip, ClipError
from .tokenizer_file import latent_digest

KEEP = 16  # latent frames encoded at once: bounds memory


def encode_clip(clip: Clip, tokenizer: Tokenizer, keep_frames: bool) -> Clip:
    """Add latents, stills and history to a clip; its folder says which tokeniser made them.

    Args:
        clip: with frames.
        tokenizer: in eval mode.
        keep_frames: held-out clips keep their frames, to be compared with.
    """
    frames = clip.arrays.frames
    if frames is None:
        raise ClipError(f"expected frames in {clip.folder}, got none")
    latents = encode_frames(tokenizer, frames, np.arange(1, len(frames)).reshape(-1, FRAMES))
    boundaries = np.arange(0, len(frames), FRAMES)
    stills = encode_frames(tokenizer, frames, np.repeat(boundaries[:, None], FRAMES, axis=1))
    # What a session sees: a real opening image, then the tokeniser's own pictures.
    layout = clip.arrays.layout[1:].reshape(-1, FRAMES, *clip.arrays.layout.shape[1:])
    opening = torch.from_numpy(np.array(frames[:1])).movedim(-1, 2)
    history = torch.cat([opening, last_images(tokenizer, latents, layout)])
    _replace(clip.folder / "stills.npy", stills.half().numpy())
    _replace(clip.folder / "history.npy", history.numpy())
    (clip.folder / "tokenizer.txt").write_text(latent_digest(tokenizer))
    _replace(clip.folder / "latents.npy", latents.half().numpy())  # last: marks the clip as encoded
    if not keep_frames:
        (clip.folder / "frames.npy").unlink()
    return Clip(clip.folder)


@torch.no_grad()
def encode_frames(tokenizer: Tokenizer, frames: np.ndarray, images: np.ndarray) -> Tensor:
    """Encode groups of four images.

    Args:
        tokenizer: in eval mode.
        frames: uint8 [F, V, H, W, 3].
        images: int [T, 4].

    Returns:
        Latents float32 [T, V, C, h, w].
    """
    latents = []
    for part in np.array_split(images, -(-len(images) // KEEP)):
        pixels = torch.from_numpy(frames[part]).permute(0, 2, 1, 5, 3, 4).float() / 255  # T V F 3 H W
        with fast_autocast("cpu"):
            latents.append(tokenizer.encode(pixels).float())
    return torch.cat(latents)


@torch.no_grad()
def last_images(tokenizer: Tokenizer, latents: Tensor, layout: np.ndarray) -> Tensor:
    """The last decoded image of every latent frame.

    Args:
        tokenizer: in eval mode.
        latents: [T, V, C, h, w].
        layout: int8 [T, 4, V, channels, 4 h, 4 w].

    Returns:
        uint8 [T, V, 3, H, W].
    """
    images = []
    for start in range(0, len(latents), KEEP):
        part = slice(start, start + KEEP)
        guide = torch.from_numpy(np.array(layout[part])).transpose(1, 2)
        with fast_autocast("cpu"):
            decoded = tokenizer.decode(latents[part], guide)[:, :, -1].float()
        images.append((decoded.clamp(0, 1) * 255).round().byte())
    return torch.cat(images)


def encode_clips(clips: Sequence[Clip], tokenizer: Tokenizer, keep_frames: bool) -> int:
    """Encode all clips that this tokeniser has not encoded yet; returns how many those were."""
    digest = latent_digest(tokenizer)
    todo = [clip for clip in clips if encoded_by(clip) != digest]
    for clip in todo:
        encode_clip(clip, tokenizer, keep_frames)
    return len(todo)


def encoded_by(clip: Clip) -> str | None:
    """`latent_digest` of the tokeniser that encoded a clip."""
    path = clip.folder / "tokenizer.txt"
    return path.read_text() if clip.encoded and path.is_file() else None


def _replace(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path)
