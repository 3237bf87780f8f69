"""One training run = one YAML file."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ..model.config import ConfigError, DepthConfig, DiTConfig, TokenizerConfig, from_mapping
from ..preset_files import preset_path


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, and Muon where asked for, under a warm-up, stable, decay schedule."""

    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 200
    decay_share: float = 0.3  # of the run, at its end
    ema_decay: float = 0.999
    muon: str = ""  # matrices whose names begin so are updated by Muon; none if empty


@dataclass(frozen=True)
class RunConfig:
    """What every run has. The run ends at `steps` or `minutes`, whichever is given; both: whichever comes first."""

    data: str  # folder of clips
    out: str  # folder of the run
    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    checkpoint_minutes: float = 5.0
    sample_minutes: float = 15.0
    log_every: int = 20
    tensorboard: bool = False
    init: str | None = None  # checkpoint whose weights to start from
    fresh: tuple[str, ...] = ()  # beginnings of parameter names that `init` may lack
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True)
class TokenizerRun(RunConfig):
    """Train the autoencoder."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    drop_guide: float = 0.25  # share of samples that are decoded without the layout
    latent_noise: float = 0.15  # standard deviations, at most, that the decoder must stand
    gradient_weight: float = 0.5
    detail_weight: float = 3.0  # extra weight of paint and agents


@dataclass(frozen=True)
class DecoderRun(RunConfig):
    """Train the decoder of a tokeniser on carried pictures; latents, and what was trained on them, stay valid.

    With `move_encoder` the encoder learns as well, held near the latents that it used to make: what was trained on them
    is to go on with those it makes then.
    """

    tokenizer: str = ""  # checkpoint of the tokeniser, or of a world model that has it
    errors_of: str | None = None  # checkpoint of a world model whose guesses the decoder must stand
    views: int = 3  # per row, neighbouring
    cycles: tuple[int, ...] = (1, 2, 4)  # pictures are carried over up to so many latent frames
    drop_guide: float = (
        0.15  # share of rows as in sessions without layout: no guide, carried by estimated depth
    )
    drop_history: float = 0.15  # ... without carried pictures
    degrade: float = 0.5  # share of rows whose carried pictures are degraded
    latent_noise: float = 0.15  # standard deviations, at most
    gradient_weight: float = 0.5
    square_weight: float = 0.0  # of the squared error: means rather than medians where detail cannot be known
    energy_weight: float = 1.0  # of texture and motion as strong as they should be, where latents are guessed
    move_encoder: bool = False  # train the encoder too
    latent_weight: float = 0.01  # of the squared distance of its latents from those in the clips
    detail_weight: float = 3.0  # extra weight of paint and agents


@dataclass(frozen=True)
class DepthRun(RunConfig):
    """Train the network that estimates depth from pictures."""

    tokenizer: str = ""  # checkpoint of the tokeniser that encoded the clips, or of a world model that has it
    depth: DepthConfig = field(default_factory=DepthConfig)
    made_share: float = 0.5  # of the pictures: after the tokeniser, not as rendered
    degrade: float = 0.7  # share of pictures that are shifted in colour and made soft


@dataclass(frozen=True)
class DynamicsRun(RunConfig):
    """Train the diffusion transformer."""

    tokenizer: str = ""  # checkpoint of the tokeniser that encoded the clips
    dit: DiTConfig = field(default_factory=DiTConfig)
    latents: int = 8  # per sequence, without the sink
    views: int = 3  # per sequence, neighbouring
    wide_every: int = 8  # every so many batches: all views, `wide_latents` latent frames
    wide_latents: int = 3
    cycles: tuple[int, ...] = (1, 2, 4)
    guess_until: float = 0.2  # of the run: up to here only what the conditions tell is learnt, which is cheap
    guess_weight: float = 0.25  # of the loss of the conditions' own guess, later on
    loss_floor: float = 0.5  # loss weight of pure noise; 1 at no noise
    shortcut_share: float = 0.25  # rows that learn to take coarse steps
    shortcut_start: float = 0.3  # of the run
    drop_layout: float = 0.15  # share of rows as in sessions without layout, see `batches.blind`
    drop_history: float = 0.15
    drop_motion: float = 0.05
    drop_sink: float = 0.3
    drop_group: float = 0.2
    degrade: float = 0.7  # share of rows whose re-projected history is degraded
    recycle_start: float = 0.7  # of the run: from here on the context carries the model's own errors
    recycle_every: int = 25
    recycle_chunks: int = 8
    recycle_share: float = 0.8


def load_run(kind: type[RunConfig], name: str) -> RunConfig:
    """Read `configs/training/NAME.yaml`, or the YAML file at a path.

    Raises:
        PresetError: no such preset. ConfigError: unknown keys, or neither steps nor minutes.
    """
    run = from_mapping(kind, yaml.safe_load(preset_path("training", name).read_text()))
    check_run(run)
    return run


def check_run(run: RunConfig) -> None:
    """Refuse a run without an end. Raises ConfigError."""
    if run.steps is None and run.minutes is None:
        raise ConfigError("expected steps or minutes, got neither: the learning rate could not decay")


def run_folder(run: RunConfig) -> Path:
    """Where a run writes, created."""
    folder = Path(run.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
