"""The vision policy's network in torch: the same weights under the same names as `network.VisionNetwork`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from .network import (
    CAMERAS,
    CONVOLUTIONS,
    FEATURES,
    FORMAT,
    HIDDEN,
    NUMBERS,
    SEEN,
    VisionNetwork,
    digest_of,
    margin,
)


class TorchNetwork(nn.Module):
    """What learns. `features` is all but the last layer, which PPO has its own of."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({camera: _tower() for camera in CAMERAS})
        self.seen = nn.Linear(SEEN, HIDDEN)
        self.hidden = nn.Linear(HIDDEN + NUMBERS, HIDDEN)
        self.hidden2 = nn.Linear(HIDDEN, HIDDEN)
        self.action = nn.Linear(FEATURES, 2)

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Accelerations to the left and forwards [m/s^2], [B, 2]; arguments as in `features`."""
        action: Tensor = self.action(self.features(images, numbers))
        return action

    def features(self, images: Tensor, numbers: Tensor) -> Tensor:
        """What the last layer takes, [B, FEATURES].

        Args:
            images: uint8 or float of 0..255, [B, V, 2, H, W, 3].
            numbers: float32 [B, NUMBERS], see `network.scaled`.
        """
        values = images.permute(1, 0, 2, 5, 3, 4).flatten(2, 3).float() / 127.5 - 1.0  # [V, B, 6, H, W]
        towers = [self.towers[name](view).flatten(1) for name, view in zip(CAMERAS, values, strict=True)]
        seen = self.seen(torch.cat(towers, dim=1)).relu()
        hidden = self.hidden2(self.hidden(torch.cat([seen, numbers], dim=1)).relu()).relu()
        return torch.cat([hidden, numbers], dim=1)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file that `VisionNetwork.load` reads."""
        from safetensors.torch import save_file

        weights = {name: value.detach().contiguous() for name, value in self.state_dict().items()}
        digest = digest_of({name: value.numpy() for name, value in weights.items()})
        save_file(weights, path, {"format": FORMAT, "digest": digest})

    def load(self, path: str | Path) -> None:
        """Take the weights of a file. Raises WeightsError."""
        from safetensors.torch import load_file

        VisionNetwork.load(path)  # refuses what is none
        self.load_state_dict(load_file(path))

    def numpy(self) -> VisionNetwork:
        """The network as it is now, without torch."""
        return VisionNetwork(
            {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}
        )


def _tower() -> nn.Sequential:
    layers: list[nn.Module] = []
    for taken, given, kernel, stride in CONVOLUTIONS:
        layers += [nn.Conv2d(taken, given, kernel, stride, margin(kernel, stride)), nn.ReLU()]
    return nn.Sequential(*layers)
