"""The diffusion engine: the same contract as the reference engine, with pictures that a network imagines.

One chunk: conditions from the scene's coming states, S denoising steps against the rolling KV (with a block cache, in
the tiers that have one), decode. A chunk that
commits leaves its clean latent pending; the KV-update pass runs before the session's next chunk, or earlier, in
`flush`, once the reply is out.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine import EngineError, SessionId
from ..model.blocks import RunStack, plain_run_stack
from ..model.conditioning import Conditions, Embedded
from ..model.config import FRAMES
from ..model.cycle import CyclePlace, place_of
from ..model.dit import commit_step
from ..model.history import History
from ..model.noise import chunk_noise
from ..model.sampler import sample, schedule
from ..model.world_model import WorldModel
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig
from ..scene_engine import SceneEngine, Session, Staged
from .cache import (
    ACTION_DIMS,
    OFF,
    XCACHE_TIERS,
    CacheChoice,
    CachedChunk,
    SessionCache,
)
from .compiled import compile_networks
from .conditions import ConditionBuilder, Request, Survey
from .dtype import fast_dtype
from .first_images import checked_images
from .flow import flow_bank
from .frames import to_bytes, to_frames
from .kinds import BlockCaches, Kind
from .laps import Laps
from .memory import (
    MEMORY_FORMAT,
    Memory,
    PendingCommit,
    memory_from_state,
    memory_to_state,
    tensors_from_state,
)
from .pool import Pool


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
        self._conditions = ConditionBuilder(self.config, self._encode_carried, self._device, self._dtype)
        self._pools: dict[int, Pool] = {}
        self._caches = BlockCaches(self.config, cache, self._dtype, self._device)
        self._renderers: dict[Rig, ReferenceRenderer] = {}

    @property
    def name(self) -> str:
        """`worldmodel`."""
        return "worldmodel"

    @property
    def state_version(self) -> str:
        """What a snapshot depends on: weights and the way they are used."""
        held = "" if self._noise_hold is None else f"/noise{self._noise_hold}"
        return f"{self.model.digest[:32]}/memory{MEMORY_FORMAT}/{self.config.name}/cycle{self.config.cycle}/{self.config.height}x{self.config.width}{held}"

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
        return tuple(self._caches.choice.tiers)

    @torch.no_grad()
    def flush(self) -> int:
        """See `WorldEngine.flush`: the KV-update passes that wait."""
        waiting = [
            s for s in self._sessions.values() if s.generator is not None and s.generator.pending is not None
        ]
        self._commit(waiting)
        return len(waiting)

    @torch.no_grad()
    def set_tier(self, session: SessionId, tier: str) -> None:
        """See `WorldEngine.set_tier`. What the session has stored is dropped: its next chunk is computed."""
        chosen = self._session(session)
        self._caches.choice.policy(tier)
        memory, was_cached = chosen.generator, chosen.generator.cache_slot is not None
        if was_cached and tier != OFF:
            self._cache(chosen).set_tier(memory.cache_slot, tier)
        elif was_cached:
            self._cache(chosen).give_back(memory.cache_slot)
        chosen.options = replace(chosen.options, tier=tier)
        if was_cached != (tier != OFF):
            chosen.generator = replace(memory, cache_slot=self._take_cache_slot(chosen))

    @torch.no_grad()
    def adopt(self, session: SessionId, leader: "DiffusionEngine", other: SessionId) -> None:
        """Stand where a session of another engine of the same model stands; the own block cache stays.

        For comparisons: two caches on the same past. Both must have as many cameras and have driven alike.
        """
        mine, theirs = self._session(session), leader._session(other)
        memory = mine.generator
        past = leader._pool(theirs).kv.slot_state(theirs.generator.slot)
        self._pool(mine).kv.load_slot_state(memory.slot, past)
        mine.generator = replace(theirs.generator, slot=memory.slot, cache_slot=memory.cache_slot)

    # What SceneEngine asks for ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _start(self, session: Session) -> np.ndarray:
        check_options(session, self._caches.choice)
        scene, rig = session.scene, self._rig(session)
        if session.images is None:
            frames = self._renderer(rig).render(scene.world, scene.atmosphere, [scene.frame])  # V 1 H W 3
        else:
            frames = checked_images(session.images, session.rig, rig.height, rig.width)[:, None]
        images = torch.from_numpy(frames).to(self._device).movedim(-1, 2).float() / 255
        self._open_on(session, rig, images[:, 0])
        return to_frames(images[None], session.options.size)[0]

    @torch.no_grad()
    def _generate(self, batch: Sequence[Staged]) -> None:
        kinds: dict[Kind, list[Staged]] = {}
        for staged in batch:
            kinds.setdefault(self._kind(staged.session), []).append(staged)
        with ExitStack() as undo:  # a chunk that is not committed leaves the block cache as it was
            for kind, group in kinds.items():
                slots = [staged.session.generator.cache_slot for staged in group]
                log = undo.enter_context(self._caches.of(kind).transaction(slots)) if kind.cached else None
                try:
                    self._generate_group(kind, group)
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
            self._commit([session])
        memory, kv = session.generator, self._pool(session).kv
        cached = None
        if memory.cache_slot is not None:
            cached = self._cache(session).state.slot_state(memory.cache_slot)
        return memory_to_state(memory, kv.slot_state(memory.slot), cached)

    @torch.no_grad()
    def _load_generator_state(self, session: Session, state: Any) -> None:
        check_options(session, self._caches.choice)
        pool = self._pool(session)
        memory = memory_from_state(state, pool.take(), self._device)
        session.generator = memory
        pool.kv.load_slot_state(memory.slot, tensors_from_state(state["kv"]))
        session.generator = replace(memory, cache_slot=self._take_cache_slot(session))
        if state["cache"] is not None:
            self._cache(session).load(session.generator.cache_slot, tensors_from_state(state["cache"]))

    def _release(self, session: Session) -> None:
        if session.generator is not None:
            self._pool(session).give_back(session.generator.slot)
            if session.generator.cache_slot is not None:
                self._cache(session).give_back(session.generator.cache_slot)
            session.generator = None

    # The chunk loop ---------------------------------------------------------------------------------------------

    def _generate_group(self, kind: Kind, group: Sequence[Staged]) -> None:
        timings: dict[str, float] = {}
        clock = Laps(timings, self._device)
        self._commit([s.session for s in group if s.session.generator.pending is not None])
        clock.lap("kv_update")
        places = [place_of(s.session.chunk, self.config.cycle) for s in group]
        requests = [self._request(s, place) for s, place in zip(group, places, strict=True)]
        survey = self._conditions.survey(requests, kind.layout)
        history = self._conditions.history(requests, survey)
        conditions = self._conditions.build(requests, survey, history)
        embedded = self.model.dit.embed(conditions)
        clock.lap("condition")
        cached = self._enter_cache(kind, group, places, conditions, requests, survey) if kind.cached else None
        clean = self._denoise(kind, group, places, embedded, cached or plain_run_stack)
        seen = [None] * len(group) if cached is None else cached.telemetry()
        clock.lap("denoise")
        pictures = self._decode(clean, survey.layout, history)  # B V F 3 H W
        frames = [
            to_frames(pictures[row : row + 1], s.session.options.size)[0] for row, s in enumerate(group)
        ]
        whole = torch.isfinite(clean).flatten(1).all(dim=1).tolist()
        clock.lap("decode")
        for row, (staged, place) in enumerate(zip(group, places, strict=True)):
            if not whole[row]:
                staged.error = EngineError(
                    "expected finite latents, got NaN or infinity: the chunk is not committed"
                )
                continue
            staged.frames = frames[row]
            staged.generator = self._remember(staged, place, row, clean, embedded, survey, pictures)
            staged.cache = seen[row]
            staged.timings_ms = {name: ms / len(group) for name, ms in timings.items()}

    def _enter_cache(
        self,
        kind: Kind,
        group: Sequence[Staged],
        places: Sequence[CyclePlace],
        conditions: Conditions,
        requests: Sequence[Request],
        survey: Survey,
    ) -> CachedChunk:
        sessions, cache = [staged.session for staged in group], self._caches.of(kind)
        transport = None
        if cache.moves:
            ages = max(self.config.cycle - 1, 1)
            transport = flow_bank(requests, survey.depth, self._conditions.stacked(requests), ages)
        return CachedChunk(
            cache,
            [session.generator.cache_slot for session in sessions],
            [session.options.tier for session in sessions],
            [session.chunk for session in sessions],
            places,
            self.config.cycle,
            conditions.motion[:, 0, :ACTION_DIMS],
            transport,
        )

    def _denoise(
        self,
        kind: Kind,
        group: Sequence[Staged],
        places: Sequence[CyclePlace],
        embedded: Embedded,
        run_stack: RunStack,
    ) -> Tensor:
        """Clean latents [B, V, C, h, w]."""
        size = (self.model.dit.channels, *self.config.latent_size)
        noise = [
            chunk_noise(s.session.seed, self._epoch(s.session.chunk, place), s.session.rig.names, size)
            for s, place in zip(group, places, strict=True)
        ]
        rows = [staged.session.generator.slot for staged in group]
        ahead = torch.tensor([place.ahead for place in places], device=self._device)
        context = self._pools[kind.views].kv.context(rows, ahead)
        return sample(
            lambda x, step: self.model.dit.denoise(x, step, embedded, context, run_stack),
            torch.stack(noise).to(self._device),
            schedule(kind.steps),
        )

    def _epoch(self, chunk: int, place: CyclePlace) -> int:
        """Chunks with the same number start from the same noise."""
        return place.noise if self._noise_hold is None else chunk // self._noise_hold

    def _commit(self, sessions: Sequence[Session]) -> None:
        """Run the KV-update pass of sessions whose last chunk is pending, those of one kind together."""
        by_views: dict[int, list[Session]] = {}
        for session in sessions:
            by_views.setdefault(len(session.rig), []).append(session)
        for views, group in by_views.items():
            waiting = [session.generator.pending for session in group]
            self.model.dit.kv_update(
                torch.cat([pending.clean for pending in waiting]),
                commit_step(self.config.commit_tau, self.config.steps),
                Embedded.concat([pending.embedded for pending in waiting]),
                self._pools[views].kv,
                [session.generator.slot for session in group],
                torch.tensor([pending.ahead for pending in waiting], device=self._device),
            )
            for session in group:
                session.generator = replace(session.generator, pending=None)

    def _open_on(self, session: Session, rig: Rig, images: Tensor) -> None:
        """Begin a session on real images [V, 3, H, W] in [0, 1]: they fill the sink and the first ring place."""
        scene, pool = session.scene, self._pool(session)
        slot, ego = pool.take(), scene.frame.ego
        still = images[:, None].expand(-1, FRAMES, -1, -1, -1)
        clean = self._encode(still)
        nowhere = images.new_zeros(0)
        memory = Memory(slot, ego, ego, to_bytes(images), nowhere, nowhere)
        request = Request(scene.world, scene.atmosphere, rig, [scene.frame] * FRAMES, memory, 1)
        survey = self._conditions.survey([request], session.options.layout)
        memory = replace(memory, source_depth=survey.depth[0, :, -1].clone(), boxes=survey.boxes[0, -1])
        session.generator = memory
        request = replace(request, memory=memory)
        history = self._conditions.history([request], survey)
        conditions = self._conditions.build([request], survey, history)
        embedded = self.model.dit.embed(conditions)
        commit = commit_step(self.config.commit_tau, self.config.steps)
        self.model.dit.write_sink(clean[None], commit, embedded, pool.kv, [slot])
        session.generator = replace(
            memory,
            pending=PendingCommit(clean[None], embedded, 1),
            cache_slot=self._take_cache_slot(session),
        )

    def _remember(
        self,
        staged: Staged,
        place: CyclePlace,
        row: int,
        clean: Tensor,
        embedded: Embedded,
        survey: Survey,
        pictures: Tensor,
    ) -> Memory:
        """The memory after a chunk. One that does not commit leaves nothing but where the ego is."""
        memory: Memory = staged.session.generator
        last = staged.states[-1].ego
        if not place.commits:
            return replace(memory, last=last)
        one = slice(row, row + 1)
        return replace(
            memory,
            anchor=last,
            last=last,
            source=to_bytes(pictures[row, :, -1]),
            source_depth=survey.depth[row, :, -1].clone(),
            boxes=survey.boxes[row, -1].clone(),
            pending=PendingCommit(clean[one].clone(), embedded.rows(one), place.ahead),
        )

    # Helpers ----------------------------------------------------------------------------------------------------

    def _request(self, staged: Staged, place: CyclePlace) -> Request:
        session = staged.session
        scene = session.scene
        return Request(
            scene.world, scene.atmosphere, self._rig(session), staged.states, session.generator, place.ahead
        )

    def _encode(self, frames: Tensor) -> Tensor:
        """Frames [..., F, 3, H, W] in [0, 1] -> latents [..., C, h, w], float32."""
        return self.model.tokenizer.encode(frames.to(self._dtype)).float()

    def _encode_carried(self, history: History) -> Tensor:
        """Carried pictures -> latents [B, V, C, h, w], float32."""
        return self.model.tokenizer.encode_carried(history).float()

    def _decode(self, clean: Tensor, guide: Tensor | None, history: History) -> Tensor:
        """Latents [B, V, C, h, w] and the layout [B, V, F, C, 4 h, 4 w], if any -> images [B, V, F, 3, H, W] in [0, 1]."""
        return self.model.tokenizer.decode(clean.to(self._dtype), guide, history).float().clamp(0, 1)

    def _rig(self, session: Session) -> Rig:
        """The session's cameras at the model's resolution."""
        return session.rig.scaled(self.config.height, self.config.width)

    def _pool(self, session: Session) -> Pool:
        views = len(session.rig)
        if views not in self._pools:
            self._pools[views] = Pool(self.model.dit, self.config, views, self._dtype, self._device)
        return self._pools[views]

    def _kind(self, session: Session) -> Kind:
        return Kind.of(session, self.config)

    def _cache(self, session: Session) -> SessionCache:
        """The block cache of sessions like this one, which must not be exact."""
        return self._caches.of(self._kind(session))

    def _take_cache_slot(self, session: Session) -> int | None:
        tier = session.options.tier
        return None if tier == OFF else self._cache(session).take(tier)

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
