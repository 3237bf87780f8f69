"""Shapes and sizes of a model. Frozen, plain, read from YAML; unknown keys are refused with the valid ones listed, and so are values of another type."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from ..preset_files import preset_path

HEAD_DIM = 64
LATENT_STRIDE = 16  # pixels per latent cell
RASTER_STRIDE = 4  # pixels per cell of layout, depth and re-projected history
FRAMES = 4  # frames per latent frame

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration with unknown, missing or impossible values."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Convolutional autoencoder of one latent frame (4 frames of one camera)."""

    channels: int = 64
    widths: tuple[int, int, int] = (96, 160, 192)  # at 1/4, 1/8 and 1/16 of the camera resolution
    encoder_blocks: int = 1  # residual blocks per resolution
    decoder_blocks: int = 2
    guide_channels: int = 26  # of the layout that the decoder may look at; 0 for none
    carried: bool = False  # whether the decoder may take fine detail from carried pictures, see `history.py`


@dataclass(frozen=True)
class DiTConfig:
    """Causal multi-camera diffusion transformer over latent frames."""

    width: int = 320
    depth: int = 8
    mlp_ratio: float = 3.0
    cross_view_every: int = 2  # blocks 1, 3, 5, ... (counted from 0) also attend across cameras
    trunk: tuple[int, int] = (128, 256)  # widths of the convolutions over layout and re-projected history
    trunk_blocks: int = 2  # residual blocks at each of both widths
    window: int = 8  # latent frames in the rolling KV, besides the sink
    layout_channels: int = 26
    temporal_dims: int = 32  # of the 64 dimensions of a head; the rest is shared by row and column
    carried: bool = False  # whether the conditions hold the latents of carried pictures, see `history.py`

    @property
    def heads(self) -> int:
        """Attention heads of 64 dimensions."""
        return self.width // HEAD_DIM


@dataclass(frozen=True)
class DepthConfig:
    """Small U-net that estimates depth from a picture."""

    widths: tuple[int, ...] = (64, 96, 160)  # at 1/4, 1/8 and 1/16 of the camera resolution
    blocks: int = 1  # residual blocks per resolution, on the way down and on the way up


@dataclass(frozen=True)
class ModelConfig:
    """A whole world model: what it looks at, its two networks, and how it is sampled by default."""

    name: str
    rig: str = "surround7"
    cameras: tuple[str, ...] = ()  # a subset of the rig; () is all of it
    height: int = 96
    width: int = 160
    steps: int = 4  # denoising steps, 1, 2, 4 or 8
    cycle: int = 1  # chunks per KV cycle: 1, 2 or 4
    commit_tau: float = 0.875  # noise label of the KV-update pass
    trained: bool = True  # False: random weights, for speed studies only
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)

    def __post_init__(self) -> None:
        _expect(self.height % LATENT_STRIDE == 0, "height", f"a multiple of {LATENT_STRIDE}", self.height)
        _expect(self.width % LATENT_STRIDE == 0, "width", f"a multiple of {LATENT_STRIDE}", self.width)
        _expect(self.dit.width % HEAD_DIM == 0, "dit.width", f"a multiple of {HEAD_DIM}", self.dit.width)
        _expect(self.steps in (1, 2, 4, 8), "steps", "1, 2, 4 or 8", self.steps)
        _expect(self.cycle in (1, 2, 4), "cycle", "1, 2 or 4", self.cycle)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of one latent frame."""
        return self.height // LATENT_STRIDE, self.width // LATENT_STRIDE

    @property
    def raster_size(self) -> tuple[int, int]:
        """Rows and columns of the layout and of the re-projected history."""
        return self.height // RASTER_STRIDE, self.width // RASTER_STRIDE


def load_model_config(name: str) -> ModelConfig:
    """Read `configs/models/NAME.yaml`, or the YAML file at a path.

    Raises:
        PresetError: no such preset. ConfigError: unknown keys or impossible values.
    """
    return from_mapping(ModelConfig, yaml.safe_load(preset_path("models", name).read_text()))


def from_mapping(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Build a (nested) frozen dataclass from plain data, refusing unknown keys."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{kind.__name__}: expected a mapping, got {type(values).__name__}")
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ConfigError(
            f"{kind.__name__}: expected keys among {', '.join(names)}, got {', '.join(unknown)}"
        )
    try:
        return kind(**{name: _convert(name, hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain data of a config, as `from_mapping` reads it."""
    return dataclasses.asdict(config)


def _convert(name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value)  # type: ignore[arg-type]
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        wanted = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        raise ConfigError(f"{name}: expected {wanted}, got {value!r}") from error


def _expect(holds: bool, name: str, wanted: str, got: Any) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {wanted}, got {got!r}")
