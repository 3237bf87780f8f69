"""How far things are, estimated from one picture: what sessions without layout carry their pictures by.

With a layout depth is known. Without one flat ground is all that geometry tells, and whatever stands on it would be taken for
infinitely far and hang still beside a moving car. This network learns from the renderer's depth what pictures show of it. It
works at raster resolution and knows the camera by its rays, so that one set of weights serves any rig and size.
"""

from functools import cache
from itertools import pairwise
from math import log
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..preset_files import PACKAGE_DIR
from .checkpoint import Checkpoint, checkpoint_config, load_checkpoint, load_weights
from .config import DepthConfig
from .folding import PIXELS, fold
from .rays import CameraTensors, ground_depth
from .reproject import FAR_M
from .tokenizer import ResidualBlock

NEAR_M = 0.5
DARK = 0.02  # brightness below which nothing is told apart
GEOMETRY = 5  # channels that tell about the camera
WEIGHTS = PACKAGE_DIR / "weights" / "parts" / "depth.safetensors"  # of every model


class DepthNet(nn.Module):
    """Pictures -> logarithm of the distance along the rays. Fresh weights say flat ground."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config, self.digest = config, "random"  # of the checkpoint that the weights are from
        widths, blocks = config.widths, config.blocks
        self.enter = nn.Conv2d(3 * PIXELS + GEOMETRY, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.bottom = _blocks(widths[-1], 2 * blocks)
        self.whole = nn.Linear(widths[-1], widths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.leave = nn.Conv2d(widths[0], 1, 3, padding=1)
        for fresh in (self.whole, self.leave):
            nn.init.zeros_(fresh.weight)

    def forward(self, images: Tensor, geometry: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1] and `camera_geometry` [N, GEOMETRY, h, w] -> log metres [N, h, w]."""
        cells = fold(
            (images + DARK).log(), 0.5, 1.0
        )  # about -1 to 1; by ratios, so that nights show as much as days
        x = self.enter(torch.cat([cells, geometry.to(cells.dtype)], dim=1))
        passed = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            passed.append(blocks(x))
            x = shrink(passed[-1])
        x = self.bottom(x)
        x = x + self.whole(x.mean(dim=(2, 3)))[:, :, None, None]
        for level in reversed(range(len(passed))):
            x = self.up[level](passed[level] + F.pixel_shuffle(self.grow[level](x), 2))
        return (geometry[:, -1] + self.leave(F.relu(x))[:, 0].float()).clamp(log(NEAR_M), log(FAR_M))

    def estimate(self, images: Tensor, cameras: CameraTensors) -> Tensor:
        """Images [B, V, 3, H, W] in [0, 1] of B rigs -> metres along the rays [B, V, h, w], FAR_M at most."""
        geometry = camera_geometry(cameras)
        seen = self(images.flatten(0, 1), geometry.flatten(0, 1))
        return seen.exp().unflatten(0, images.shape[:2])


def camera_geometry(cameras: CameraTensors) -> Tensor:
    """What the network knows of cameras: their rays, their height [2 m], log distance to flat ground: [..., V, GEOMETRY, h, w]."""
    rays = cameras.rays.movedim(-1, -3)
    ground = log_depth(ground_depth(cameras))[..., None, :, :]
    height = (cameras.position[..., 2] / 2)[..., None, None, None].expand_as(ground)
    return torch.cat([rays, height, ground], dim=-3)


def log_depth(metres: Tensor) -> Tensor:
    """Logarithm of metres, within what the network tells apart."""
    return metres.float().clamp(NEAR_M, FAR_M).log()


def load_depth(path: Path = WEIGHTS) -> DepthNet:
    """A depth network from its checkpoint, in eval mode. Raises CheckpointError."""
    checkpoint = load_checkpoint(path)
    return depth_from(checkpoint, checkpoint_config(checkpoint, DepthConfig))


def depth_from(checkpoint: Checkpoint, config: DepthConfig, prefix: str = "") -> DepthNet:
    """A depth network from tensors of a checkpoint, in eval mode. Raises CheckpointError."""
    with torch.random.fork_rng(devices=[]):  # fresh weights, to be replaced, are no business of the caller's
        net = DepthNet(config)
    net.digest = checkpoint.digest
    return load_weights(net, checkpoint, prefix).eval().requires_grad_(False)


@cache
def shipped_depth() -> DepthNet:
    """The network in the package, on the CPU: what training shows sessions without layout by. Not to be changed."""
    return load_depth()


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
