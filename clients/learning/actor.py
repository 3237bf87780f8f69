"""The network as Stable-Baselines3's PPO holds it: the driver, and a critic beside it that does not pull at what the driver sees."""

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor

from .network import FEATURES, Learns
from .torch_network import TorchNetwork


class Features(BaseFeaturesExtractor):
    """All but the last layer of the network."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, FEATURES)
        self.network = TorchNetwork()
        del self.network.action  # the learner has its own

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, FEATURES]."""
        return self.network.features(observations["images"], observations["numbers"])


class _Heads(MlpExtractor):
    """A critic that knows nothing yet would spoil the features that the driver steers by: its errors end here."""

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """[B, latent]."""
        return super().forward_critic(features.detach())


class Actor(MultiInputActorCriticPolicy):
    """A driver (`TorchNetwork`) with exploration noise, and a critic."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Heads(self.features_dim, self.net_arch, self.activation_fn, self.device)

    @property
    def network(self) -> TorchNetwork:
        """All but the last layer, which is `action_net`."""
        features = self.features_extractor
        assert isinstance(features, Features)
        return features.network

    def take(self, network: TorchNetwork) -> None:
        """Drive as this network does."""
        weights = network.state_dict()
        head = {name.removeprefix("action."): weights.pop(name) for name in ("action.weight", "action.bias")}
        self.network.load_state_dict(weights)
        self.action_net.load_state_dict(head)

    def driver(self) -> TorchNetwork:
        """A copy of what drives."""
        head = {f"action.{name}": value for name, value in self.action_net.state_dict().items()}
        network = TorchNetwork()
        network.load_state_dict({**self.network.state_dict(), **head})
        return network

    def learn_only(self, learns: Learns | None) -> None:
        """Choose what learns besides the critic; None: nothing.

        A thousand chunks tell how boldly to drive, ten thousand how to drive, and hundreds of thousands how to see.
        """
        eyes = [*self.network.towers.parameters(), *self.network.seen.parameters()]
        layers = [*self.network.hidden.parameters(), *self.network.hidden2.parameters()]
        last = [*self.action_net.parameters(), self.log_std]
        for parameters, those_who_learn in (
            (eyes, ("all",)),
            (layers, ("all", "driving")),
            (last, ("all", "driving", "last")),
        ):
            for parameter in parameters:
                parameter.requires_grad_(learns in those_who_learn)
