"""The diffusion engine: the same contract as the reference engine, with pictures that a network imagines.

One chunk: conditions from the scene's coming states, S denoising steps against the rolling KV, decode. A chunk that
commits leaves its clean latent pending; the KV-update pass runs before the session's next chunk, or earlier, in
`flush`, once the reply is out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine import EngineError
from ..model.blocks import plain_run_block
from ..model.conditioning import Embedded
from ..model.config import FRAMES, RASTER_STRIDE
from ..model.cycle import CyclePlace, place_of
from ..model.dit import commit_step
from ..model.noise import chunk_noise
from ..model.sampler import sample, schedule
from ..model.world_model import WorldModel
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig
from ..scene_engine import SceneEngine, Session, Staged
from .conditions import ConditionBuilder, Request, Survey
from .memory import Memory, PendingCommit, memory_from_state, memory_to_state
from .pool import Pool

TIERS = ("exact",)


@dataclass(frozen=True)
class _Kind:
    """Sessions of one kind run as one batch."""

    views: int
    steps: int
    layout: bool


class DiffusionEngine(SceneEngine):
    """Generates frames with a world model.

    Args:
        model: networks and their config.
        device: where they run.
        dtype: number format of weights and KV; None is bfloat16 where the device is fast at it, else float32.
    """

    def __init__(
        self, model: WorldModel, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._device = torch.device(device)
        self._dtype = dtype or fast_dtype(self._device)
        self.model = model.to(self._device, self._dtype)
        self.config = model.config
        self._conditions = ConditionBuilder(self.config, self._device)
        self._pools: dict[int, Pool] = {}
        self._renderers: dict[Rig, ReferenceRenderer] = {}

    @property
    def name(self) -> str:
        """`worldmodel`."""
        return "worldmodel"

    @property
    def state_version(self) -> str:
        """What a snapshot depends on: weights and the way they are used."""
        return f"{self.model.digest[:32]}/{self.config.name}/cycle{self.config.cycle}/{self.config.height}x{self.config.width}"

    @torch.no_grad()
    def flush(self) -> int:
        """Run the KV-update passes that wait; returns how many. Call it when nobody waits for a reply."""
        waiting = [
            s for s in self._sessions.values() if s.generator is not None and s.generator.pending is not None
        ]
        for session in waiting:
            self._commit([session])
        return len(waiting)

    # What SceneEngine asks for ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _start(self, session: Session) -> np.ndarray:
        check_options(session)
        scene, rig = session.scene, self._rig(session)
        frames = self._renderer(rig).render(scene.world, scene.atmosphere, [scene.frame])  # V 1 H W 3
        images = torch.from_numpy(frames[:, 0]).to(self._device).movedim(-1, 1).float() / 255
        self._open_on(session, rig, images)
        return frames

    @torch.no_grad()
    def _generate(self, batch: Sequence[Staged]) -> None:
        kinds: dict[_Kind, list[Staged]] = {}
        for staged in batch:
            kinds.setdefault(self._kind(staged.session), []).append(staged)
        for kind, group in kinds.items():
            try:
                self._generate_group(kind, group)
            except torch.OutOfMemoryError as error:
                for staged in group:
                    staged.error = EngineError(
                        f"out of memory with {len(group)} sessions: {str(error).splitlines()[0]}"
                    )

    @torch.no_grad()
    def _generator_state(self, session: Session) -> Any:
        if session.generator.pending is not None:
            self._commit([session])
        return memory_to_state(session.generator, self._pool(session).kv.slot_state(session.generator.slot))

    @torch.no_grad()
    def _load_generator_state(self, session: Session, state: Any) -> None:
        pool = self._pool(session)
        memory, kv = memory_from_state(state, pool.take(), self._device)
        session.generator = memory
        pool.kv.load_slot_state(memory.slot, kv)

    def _release(self, session: Session) -> None:
        if session.generator is not None:
            self._pool(session).give_back(session.generator.slot)
            session.generator = None

    # The chunk loop ---------------------------------------------------------------------------------------------

    def _generate_group(self, kind: _Kind, group: Sequence[Staged]) -> None:
        timings: dict[str, float] = {}
        clock = _Laps(timings, self._device)
        self._commit([s.session for s in group if s.session.generator.pending is not None])
        clock.lap("kv_update")
        places = [place_of(s.session.chunk, self.config.cycle) for s in group]
        requests = [self._request(s, place) for s, place in zip(group, places, strict=True)]
        survey = self._conditions.survey(requests, kind.layout)
        embedded = self.model.dit.embed(self._conditions.build(requests, survey))
        clock.lap("condition")
        clean = self._denoise(kind, group, places, embedded)
        clock.lap("denoise")
        pictures = self._decode(clean, survey.layout)  # B V F 3 H W
        frames = (pictures * 255).round().byte().movedim(3, -1).cpu().numpy()
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
            staged.timings_ms = {name: ms / len(group) for name, ms in timings.items()}

    def _denoise(
        self, kind: _Kind, group: Sequence[Staged], places: Sequence[CyclePlace], embedded: Embedded
    ) -> Tensor:
        """Clean latents [B, V, C, h, w]."""
        size = (self.model.dit.channels, *self.config.latent_size)
        noise = [
            chunk_noise(s.session.seed, place.noise, s.session.rig.names, size)
            for s, place in zip(group, places, strict=True)
        ]
        rows = [staged.session.generator.slot for staged in group]
        ahead = torch.tensor([place.ahead for place in places], device=self._device)
        context = self._pools[kind.views].kv.context(rows, ahead)
        return sample(
            lambda x, step: self.model.dit.denoise(x, step, embedded, context, plain_run_block),
            torch.stack(noise).to(self._device),
            schedule(kind.steps),
        )

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
        clean = self.model.tokenizer.encode(still.to(self._dtype)).float()
        source = _reduce(images)
        memory = Memory(slot, ego, ego, source, torch.ones_like(source[:, 0]))
        request = Request(scene.world, scene.atmosphere, rig, [scene.frame] * FRAMES, memory, 1)
        survey = self._conditions.survey([request], session.options.layout)
        memory = replace(memory, source_depth=survey.depth[0, :, -1].clone())
        session.generator = memory
        conditions = self._conditions.build([replace(request, memory=memory)], survey)
        embedded = self.model.dit.embed(conditions)
        commit = commit_step(self.config.commit_tau, self.config.steps)
        self.model.dit.write_sink(clean[None], commit, embedded, pool.kv, [slot])
        session.generator = replace(memory, pending=PendingCommit(clean[None], embedded, 1))

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
        return Memory(
            memory.slot,
            anchor=last,
            last=last,
            source=_reduce(pictures[row, :, -1]),
            source_depth=survey.depth[row, :, -1].clone(),
            pending=PendingCommit(clean[one].clone(), embedded.rows(one), place.ahead),
        )

    # Helpers ----------------------------------------------------------------------------------------------------

    def _request(self, staged: Staged, place: CyclePlace) -> Request:
        session = staged.session
        scene = session.scene
        return Request(
            scene.world, scene.atmosphere, self._rig(session), staged.states, session.generator, place.ahead
        )

    def _decode(self, clean: Tensor, guide: Tensor | None) -> Tensor:
        """Latents [B, V, C, h, w] and the layout [B, V, F, C, 4 h, 4 w], if any -> images [B, V, F, 3, H, W] in [0, 1]."""
        return self.model.tokenizer.decode(clean.to(self._dtype), guide).float().clamp(0, 1)

    def _rig(self, session: Session) -> Rig:
        """The session's cameras at the model's resolution."""
        return session.rig.scaled(self.config.height, self.config.width)

    def _pool(self, session: Session) -> Pool:
        views = len(session.rig)
        if views not in self._pools:
            self._pools[views] = Pool(self.model.dit, self.config, views, self._dtype, self._device)
        return self._pools[views]

    def _kind(self, session: Session) -> _Kind:
        options = session.options
        return _Kind(len(session.rig), options.steps or self.config.steps, options.layout)

    def _renderer(self, rig: Rig) -> ReferenceRenderer:
        if rig not in self._renderers:
            self._renderers[rig] = ReferenceRenderer(rig, self._device)
        return self._renderers[rig]


def check_options(session: Session) -> None:
    """Refuse options that the engine cannot honour. Raises EngineError."""
    options = session.options
    if options.tier not in TIERS:
        raise EngineError(f"expected a tier of {', '.join(TIERS)}, got {options.tier!r}")
    if options.steps is not None:
        try:
            schedule(options.steps)
        except ValueError as error:
            raise EngineError(str(error)) from error


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where matrix products are fast in it, float32 elsewhere."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def _reduce(images: Tensor) -> Tensor:
    """[V, 3, H, W] -> raster resolution."""
    return torch.nn.functional.avg_pool2d(images, RASTER_STRIDE)


class _Laps:
    """Milliseconds between laps, by name."""

    def __init__(self, laps: dict[str, float], device: torch.device) -> None:
        self._laps, self._device, self._start = laps, device, time.perf_counter()

    def lap(self, name: str) -> None:
        """End the present lap."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._laps[name] = (now - self._start) * 1e3
        self._start = now
