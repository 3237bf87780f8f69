"""Put a run together from its config and start it: what the command line calls."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..model.checkpoint import CheckpointError
from .clips import Clip, open_clips
from .config import DecoderRun, DepthRun, DynamicsRun, RunConfig, TokenizerRun, check_run, load_run
from .decoder_task import DecoderTask
from .depth_task import DepthTask
from .dynamics_task import DynamicsTask
from .encode import encoded_by
from .tokenizer_file import latent_digest, load_tokenizer
from .tokenizer_task import TokenizerTask
from .trainer import train

# Layout channels where small things are that deserve weight in the tokeniser's loss.
DETAILS = (
    "lane_line",
    "crossing",
    "stop_line",
    "light_red",
    "light_green",
    "vehicle_edge",
    "pedestrian_edge",
)
# A clip folder holds `train/` and `held_out/`.
TRAIN, HELD_OUT = "train", "held_out"


def train_tokenizer(
    config: str, out: str | None = None, minutes: float | None = None, resume: bool = False
) -> Path:
    """Run a tokeniser training; returns the checkpoint."""
    run = _overridden(load_run(TokenizerRun, config), out, minutes)
    assert isinstance(run, TokenizerRun)
    clips, held_out = open_clips(Path(run.data) / TRAIN), open_clips(Path(run.data) / HELD_OUT)
    return train(TokenizerTask(run, clips, held_out, detail_channels(clips[0])), run, resume)


def train_decoder(
    config: str, out: str | None = None, minutes: float | None = None, resume: bool = False
) -> Path:
    """Run a decoder training; returns the checkpoint of the whole tokeniser."""
    run = _overridden(load_run(DecoderRun, config), out, minutes)
    assert isinstance(run, DecoderRun)
    clips, held_out = _encoded_clips(run.data, run.tokenizer)
    return train(DecoderTask(run, clips, held_out, detail_channels(clips[0])), run, resume)


def train_depth(
    config: str, out: str | None = None, minutes: float | None = None, resume: bool = False
) -> Path:
    """Run a training of the depth network; returns the checkpoint."""
    run = _overridden(load_run(DepthRun, config), out, minutes)
    assert isinstance(run, DepthRun)
    return train(DepthTask(run, *_encoded_clips(run.data, run.tokenizer)), run, resume)


def train_dynamics(
    config: str, out: str | None = None, minutes: float | None = None, resume: bool = False
) -> Path:
    """Run a dynamics training; returns the checkpoint."""
    run = _overridden(load_run(DynamicsRun, config), out, minutes)
    assert isinstance(run, DynamicsRun)
    clips, held_out = _encoded_clips(run.data, run.tokenizer)
    return train(DynamicsTask(run, clips, held_out), run, resume)


def _encoded_clips(data: str, tokenizer: str) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and to judge on, which this tokeniser has encoded."""
    clips, held_out = (open_clips(Path(data) / part, encoded=True) for part in (TRAIN, HELD_OUT))
    check_encoded([*clips, *held_out], Path(tokenizer))
    return clips, held_out


def detail_channels(clip: Clip) -> Sequence[int]:
    """Positions of `DETAILS` among the layout channels of a clip."""
    names = clip.meta.get("layout_channels", ())
    return [index for index, name in enumerate(names) if name in DETAILS]


def check_encoded(clips: Sequence[Clip], tokenizer: Path) -> None:
    """Refuse clips that another tokeniser encoded. Raises CheckpointError."""
    digest = latent_digest(load_tokenizer(tokenizer))
    others = [clip.folder.name for clip in clips if encoded_by(clip) != digest]
    if others:
        raise CheckpointError(
            f"expected clips encoded by {tokenizer.name} ({digest[:12]}), got {len(others)} of another tokeniser: "
            "run `roadloop train encode` again"
        )


def _overridden(run: RunConfig, out: str | None, minutes: float | None) -> RunConfig:
    if out is not None:
        run = replace(run, out=out)
    if minutes is not None:
        run = replace(run, minutes=minutes, steps=None)
    check_run(run)
    return run
