"""The chunk loop: conditions, S denoising steps against the rolling KV, decode; then what the session remembers of it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..engine import EngineError
from ..model.blocks import RunStack, plain_run_stack
from ..model.conditioning import Conditions, Embedded
from ..model.config import FRAMES
from ..model.cycle import CyclePlace, place_of
from ..model.dit import channels_innermost, commit_step
from ..model.history import History
from ..model.noise import chunk_noise
from ..model.sampler import sample, schedule
from ..model.world_model import WorldModel
from ..rig import Rig
from ..scene_engine import Session, Staged
from .cache import ACTION_DIMS, OFF, CacheChoice, CachedChunk, SessionCache
from .conditions import ConditionBuilder, Request, Survey
from .flow import flow_bank
from .frames import to_bytes, to_frames
from .kinds import BlockCaches, Kind
from .laps import Laps
from .memory import Memory, PendingCommit
from .pool import Pool


class ChunkLoop:
    """Turns coming scene states into pictures, for all sessions of one engine.

    A chunk that commits leaves its clean latent pending; the KV-update pass (`commit`) runs before the session's next chunk, or
    earlier, once the reply is out.

    Args:
        model: networks and their config, on the device and in the number format that they run in.
        device: where they run.
        dtype: number format of weights and KV.
        cache: which block cache the tiers mean.
        noise_hold: chunks that start from the same noise; None is the model's own, a KV cycle.
    """

    def __init__(
        self,
        model: WorldModel,
        device: torch.device,
        dtype: torch.dtype,
        cache: CacheChoice,
        noise_hold: int | None,
    ) -> None:
        self._model, self._config = model, model.config
        self._device, self._dtype, self._noise_hold = device, dtype, noise_hold
        self._conditions = ConditionBuilder(model.config, self._encode_carried, model.depth, device, dtype)
        self._pools: dict[int, Pool] = {}
        self._levels: dict[int, Tensor] = {}  # of each number of steps
        self.caches = BlockCaches(model.config, cache, dtype, device)

    def open_on(self, session: Session, rig: Rig, images: Tensor) -> None:
        """Begin a session on real images [V, 3, H, W] in [0, 1]: they fill the sink and the first ring place."""
        scene, pool = session.scene, self.pool(session)
        slot, ego = pool.take(), scene.frame.ego
        still = images[:, None].expand(-1, FRAMES, -1, -1, -1)
        clean = self._encode(still)
        nowhere = images.new_zeros(0)
        memory = Memory(slot, ego, ego, to_bytes(images), self._conditions.ground(rig), nowhere)
        request = Request(scene.world, scene.atmosphere, rig, [scene.frame] * FRAMES, memory, 1)
        survey = self._conditions.survey([request], session.options.layout)
        memory = replace(memory, source_depth=survey.depth[0, :, -1].clone(), boxes=survey.boxes[0, -1])
        session.generator = memory
        request = replace(request, memory=memory)
        history = self._conditions.history([request], survey)
        conditions = self._conditions.build([request], survey, history)
        embedded = self._model.dit.embed(conditions)
        commit = commit_step(self._config.commit_tau, self._config.steps)
        self._model.dit.write_sink(clean[None], commit, embedded, pool.kv, [slot])
        session.generator = replace(
            memory,
            pending=PendingCommit(clean[None], embedded, 1),
            cache_slot=self.take_cache_slot(session),
        )

    def generate(self, kind: Kind, group: Sequence[Staged]) -> None:
        """Make the coming chunk of sessions of one kind: frames, memory, telemetry and timings go into `group`; or an error."""
        timings: dict[str, float] = {}
        clock = Laps(timings, self._device)
        self.commit([s.session for s in group if s.session.generator.pending is not None])
        clock.lap("kv_update")
        places = [place_of(s.session.chunk, self._config.cycle) for s in group]
        requests = [self._request(s, place) for s, place in zip(group, places, strict=True)]
        survey = self._conditions.survey(requests, kind.layout)
        history = self._conditions.history(requests, survey)
        conditions = self._conditions.build(requests, survey, history)
        embedded = self._model.dit.embed(conditions)
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

    def commit(self, sessions: Sequence[Session]) -> None:
        """Run the KV-update pass of sessions whose last chunk is pending, those of one kind together.

        What they know of distances follows where no layout tells it: neither is wanted before the next chunk.
        """
        by_views: dict[int, list[Session]] = {}
        for session in sessions:
            by_views.setdefault(len(session.rig), []).append(session)
        for views, group in by_views.items():
            waiting = [session.generator.pending for session in group]
            self._model.dit.kv_update(
                torch.cat([pending.clean for pending in waiting]),
                commit_step(self._config.commit_tau, self._config.steps),
                Embedded.concat([pending.embedded for pending in waiting]),
                self._pools[views].kv,
                [session.generator.slot for session in group],
                torch.tensor([pending.ahead for pending in waiting], device=self._device),
            )
            for session in group:
                session.generator = replace(session.generator, pending=None)
            self._look([session for session in group if not session.options.layout])

    def _look(self, sessions: Sequence[Session]) -> None:
        """Estimate the depth of what was committed last, for sessions with equally many cameras that no layout tells it."""
        if not sessions:
            return
        images = torch.stack([session.generator.source for session in sessions])
        depth = self._conditions.estimated(images, [self.rig(session) for session in sessions])
        for session, own in zip(sessions, depth, strict=True):
            session.generator = replace(session.generator, source_depth=own.clone())

    def kind(self, session: Session) -> Kind:
        """With which others a session runs as one batch."""
        return Kind.of(session, self._config)

    def pool(self, session: Session) -> Pool:
        """The rolling KV of sessions with as many cameras."""
        views = len(session.rig)
        if views not in self._pools:
            self._pools[views] = Pool(self._model.dit, self._config, views, self._dtype, self._device)
        return self._pools[views]

    def cache(self, session: Session) -> SessionCache:
        """The block cache of sessions like this one, which must not be exact."""
        return self.caches.of(self.kind(session))

    def take_cache_slot(self, session: Session) -> int | None:
        """A slot of the block cache; None for a session that has none."""
        tier = session.options.tier
        return None if tier == OFF else self.cache(session).take(tier)

    def rig(self, session: Session) -> Rig:
        """The session's cameras at the model's resolution."""
        return session.rig.scaled(self._config.height, self._config.width)

    def _enter_cache(
        self,
        kind: Kind,
        group: Sequence[Staged],
        places: Sequence[CyclePlace],
        conditions: Conditions,
        requests: Sequence[Request],
        survey: Survey,
    ) -> CachedChunk:
        sessions, cache = [staged.session for staged in group], self.caches.of(kind)
        transport = None
        if cache.moves:
            ages = max(self._config.cycle - 1, 1)
            transport = flow_bank(requests, survey.depth, self._conditions.stacked(requests), ages)
        return CachedChunk(
            cache,
            [session.generator.cache_slot for session in sessions],
            [session.options.tier for session in sessions],
            [session.chunk for session in sessions],
            places,
            self._config.cycle,
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
        size = (self._model.dit.channels, *self._config.latent_size)
        noise = [
            chunk_noise(s.session.seed, self._epoch(s.session.chunk, place), s.session.rig.names, size)
            for s, place in zip(group, places, strict=True)
        ]
        rows = [staged.session.generator.slot for staged in group]
        ahead = torch.tensor([place.ahead for place in places], device=self._device)
        context = self._pools[kind.views].kv.context(rows, ahead)
        dit, steps = self._model.dit, schedule(kind.steps)
        if kind.steps not in self._levels:
            self._levels[kind.steps] = dit.levels(steps)
        modulations = dit.modulations(self._levels[kind.steps], embedded)
        return sample(
            lambda x, step: dit.denoise(x, step, embedded, context, run_stack, modulations[step.number]),
            channels_innermost(torch.stack(noise).to(self._device)),
            steps,
        )

    def _epoch(self, chunk: int, place: CyclePlace) -> int:
        """Chunks with the same number start from the same noise."""
        return place.noise if self._noise_hold is None else chunk // self._noise_hold

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

    def _request(self, staged: Staged, place: CyclePlace) -> Request:
        session = staged.session
        scene = session.scene
        return Request(
            scene.world, scene.atmosphere, self.rig(session), staged.states, session.generator, place.ahead
        )

    def _encode(self, frames: Tensor) -> Tensor:
        """Frames [..., F, 3, H, W] in [0, 1] -> latents [..., C, h, w], float32."""
        return self._model.tokenizer.encode(frames.to(self._dtype)).float()

    def _encode_carried(self, history: History) -> Tensor:
        """Carried pictures -> latents [B, V, C, h, w], float32."""
        return self._model.tokenizer.encode_carried(history).float()

    def _decode(self, clean: Tensor, guide: Tensor | None, history: History) -> Tensor:
        """Latents [B, V, C, h, w] and the layout [B, V, F, C, 4 h, 4 w], if any -> images [B, V, F, 3, H, W] in [0, 1]."""
        return self._model.tokenizer.decode(clean.to(self._dtype), guide, history).float().clamp_(0, 1)
