"""Sessions of one kind run as one batch, and share a block cache."""

from dataclasses import dataclass

import torch

from ..model.config import ModelConfig
from ..scene_engine import Session
from .cache import OFF, CacheChoice, Groups, SessionCache, view_groups


@dataclass(frozen=True)
class Kind:
    """What sessions of one batch have in common."""

    views: int
    steps: int
    layout: bool
    # View groups of sessions with a block cache; None: exact ones, which never touch it.
    cached: Groups | None

    @classmethod
    def of(cls, session: Session, config: ModelConfig) -> "Kind":
        """The kind of a session."""
        options = session.options
        cached = None if options.tier == OFF else view_groups(session.rig)
        return cls(len(session.rig), options.steps or config.steps, options.layout, cached)


class BlockCaches:
    """The block caches of an engine, one for each kind of session that has one; made when first asked for."""

    def __init__(
        self, config: ModelConfig, choice: CacheChoice, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.choice = choice
        self._config, self._dtype, self._device = config, dtype, device
        self._made: dict[Kind, SessionCache] = {}

    def __len__(self) -> int:
        return len(self._made)

    def of(self, kind: Kind) -> SessionCache:
        """The cache of a kind."""
        if kind.cached is None:
            raise ValueError(f"expected a kind of session with a block cache, got {kind}: it has none")
        if kind not in self._made:
            self._made[kind] = SessionCache(
                self._config, kind.steps, kind.views, kind.cached, self.choice, self._dtype, self._device
            )
        return self._made[kind]
