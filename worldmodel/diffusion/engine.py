"""The diffusion engine: the same contract as the reference engine, with pictures that a network imagines.

Sessions are kept here; `chunk_loop.py` makes their pictures.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..engine import EngineError, SessionId
from ..model.precision import fast_dtype
from ..model.sampler import schedule
from ..model.world_model import WorldModel
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig
from ..scene_engine import SceneEngine, Session, Staged
from .cache import OFF, XCACHE_TIERS, CacheChoice
from .chunk_loop import ChunkLoop
from .compiled import compile_networks
from .first_images import checked_images
from .frames import to_frames
from .kinds import Kind
from .memory import MEMORY_FORMAT, memory_from_state, memory_to_state, tensors_from_state


class DiffusionEngine(SceneEngine):
    """Generates frames with a world model.

    Args:
        model: networks and their config.
        device: where they run.
        dtype: number format of weights and KV; None is bfloat16 where the device is fast at it, else float32.
        cache: which block cache the tiers mean.
        compile: mode of `torch.compile`, see `compiled.py`; empty runs eagerly.
        noise_hold: chunks that start from the same noise; None is the model's own, a KV cycle.
    """

    def __init__(
        self,
        model: WorldModel,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        cache: CacheChoice = XCACHE_TIERS,
        compile: str = "",
        noise_hold: int | None = None,
    ) -> None:
        super().__init__()
        self._noise_hold = noise_hold
        self._device = torch.device(device)
        self._dtype = dtype or fast_dtype(self._device)
        self.model = model.to(self._device, self._dtype)
        if compile:
            compile_networks(self.model, compile)
        self.config = model.config
        self._loop = ChunkLoop(self.model, self._device, self._dtype, cache, noise_hold)
        self._renderers: dict[Rig, ReferenceRenderer] = {}

    @property
    def name(self) -> str:
        """`worldmodel`."""
        return "worldmodel"

    @property
    def state_version(self) -> str:
        """What a snapshot depends on: weights and the way they are used."""
        held = "" if self._noise_hold is None else f"/noise{self._noise_hold}"
        return f"{self.model.digest[:32]}/depth{self.model.depth.digest[:8]}/memory{MEMORY_FORMAT}/{self.config.name}/cycle{self.config.cycle}/{self.config.height}x{self.config.width}{held}"

    @property
    def model_name(self) -> str:
        """See `WorldEngine.model_name`."""
        return self.config.name

    @property
    def dtype(self) -> torch.dtype:
        """Number format of weights and KV."""
        return self._dtype

    @property
    def tiers(self) -> tuple[str, ...]:
        """See `WorldEngine.tiers`."""
        return tuple(self._loop.caches.choice.tiers)

    @torch.no_grad()
    def flush(self) -> int:
        """See `WorldEngine.flush`: the KV-update passes that wait."""
        waiting = [
            s for s in self._sessions.values() if s.generator is not None and s.generator.pending is not None
        ]
        self._loop.commit(waiting)
        return len(waiting)

    @torch.no_grad()
    def set_tier(self, session: SessionId, tier: str) -> None:
        """See `WorldEngine.set_tier`. What the session has stored is dropped: its next chunk is computed."""
        chosen = self._session(session)
        self._loop.caches.choice.policy(tier)
        memory, was_cached = chosen.generator, chosen.generator.cache_slot is not None
        if was_cached and tier != OFF:
            self._loop.cache(chosen).set_tier(memory.cache_slot, tier)
        elif was_cached:
            self._loop.cache(chosen).give_back(memory.cache_slot)
        chosen.options = replace(chosen.options, tier=tier)
        if was_cached != (tier != OFF):
            chosen.generator = replace(memory, cache_slot=self._loop.take_cache_slot(chosen))

    @torch.no_grad()
    def adopt(self, session: SessionId, leader: "DiffusionEngine", other: SessionId) -> None:
        """Stand where a session of another engine of the same model stands; the own block cache stays.

        For comparisons: two caches on the same past. Both must have as many cameras and have driven alike.
        """
        mine, theirs = self._session(session), leader._session(other)
        memory = mine.generator
        past = leader._loop.pool(theirs).kv.slot_state(theirs.generator.slot)
        self._loop.pool(mine).kv.load_slot_state(memory.slot, past)
        mine.generator = replace(theirs.generator, slot=memory.slot, cache_slot=memory.cache_slot)

    # What SceneEngine asks for ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _start(self, session: Session) -> np.ndarray:
        check_options(session, self._loop.caches.choice)
        scene, rig = session.scene, self._loop.rig(session)
        if session.images is None:
            frames = self._renderer(rig).render(scene.world, scene.atmosphere, [scene.frame])  # V 1 H W 3
        else:
            frames = checked_images(session.images, session.rig, rig.height, rig.width)[:, None]
        images = torch.from_numpy(frames).to(self._device).movedim(-1, 2).float() / 255
        self._loop.open_on(session, rig, images[:, 0])
        return to_frames(images[None], session.options.size)[0]

    @torch.no_grad()
    def _generate(self, batch: Sequence[Staged]) -> None:
        kinds: dict[Kind, list[Staged]] = {}
        for staged in batch:
            kinds.setdefault(self._loop.kind(staged.session), []).append(staged)
        with ExitStack() as undo:  # a chunk that is not committed leaves the block cache as it was
            for kind, group in kinds.items():
                slots = [staged.session.generator.cache_slot for staged in group]
                log = (
                    undo.enter_context(self._loop.caches.of(kind).transaction(slots)) if kind.cached else None
                )
                try:
                    self._loop.generate(kind, group)
                except torch.OutOfMemoryError as error:
                    for staged in group:
                        staged.error = EngineError(
                            f"out of memory with {len(group)} sessions: {str(error).splitlines()[0]}"
                        )
                if log is not None:
                    log.rollback([slot for slot, s in zip(slots, group, strict=True) if s.error is not None])

    @torch.no_grad()
    def _generator_state(self, session: Session) -> Any:
        if session.generator.pending is not None:
            self._loop.commit([session])
        memory, kv = session.generator, self._loop.pool(session).kv
        cached = None
        if memory.cache_slot is not None:
            cached = self._loop.cache(session).state.slot_state(memory.cache_slot)
        return memory_to_state(memory, kv.slot_state(memory.slot), cached)

    @torch.no_grad()
    def _load_generator_state(self, session: Session, state: Any) -> None:
        check_options(session, self._loop.caches.choice)
        pool = self._loop.pool(session)
        memory = memory_from_state(state, pool.take(), self._device)
        session.generator = memory
        pool.kv.load_slot_state(memory.slot, tensors_from_state(state["kv"]))
        session.generator = replace(memory, cache_slot=self._loop.take_cache_slot(session))
        if state["cache"] is not None:
            self._loop.cache(session).load(session.generator.cache_slot, tensors_from_state(state["cache"]))

    def _release(self, session: Session) -> None:
        if session.generator is not None:
            self._loop.pool(session).give_back(session.generator.slot)
            if session.generator.cache_slot is not None:
                self._loop.cache(session).give_back(session.generator.cache_slot)
            session.generator = None

    # Helpers ----------------------------------------------------------------------------------------------------

    def _renderer(self, rig: Rig) -> ReferenceRenderer:
        if rig not in self._renderers:
            self._renderers[rig] = ReferenceRenderer(rig, self._device)
        return self._renderers[rig]


def check_options(session: Session, cache: CacheChoice) -> None:
    """Refuse options that the engine cannot honour. Raises EngineError."""
    options = session.options
    cache.policy(options.tier)
    if options.steps is not None:
        try:
            schedule(options.steps)
        except ValueError as error:
            raise EngineError(str(error)) from error
