import pytest
import torch

from worldmodel.model.blocks import Part, plain_run_stack
from worldmodel.model.conditioning import APPEARANCE_DIMS, MOTION_DIMS, Conditions
from worldmodel.model.config import DiTConfig
from worldmodel.model.dit import DiT, commit_step
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.sampler import Step, schedule
from worldmodel.model.sequence_memory import block_causal_mask

VIEWS, ROWS, COLUMNS, CHANNELS, LAYOUT = 3, 2, 3, 4, 2
CONFIG = DiTConfig(width=64, depth=3, window=3, trunk=(8, 16), layout_channels=LAYOUT)
COMMIT = commit_step(0.875, 1)


@pytest.fixture
def model() -> DiT:
    """A small network whose zero-initialised parts are alive, as after training."""
    torch.manual_seed(0)
    model = DiT(CONFIG, CHANNELS)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def conditions(batch: int, latents: int) -> Conditions:
    """Random conditions of a whole sequence."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    raster = (batch, VIEWS, latents, 4)
    size = (4 * ROWS, 4 * COLUMNS)
    return Conditions(
        motion=random(batch, latents, MOTION_DIMS),
        rays=torch.nn.functional.normalize(random(batch, VIEWS, 6, ROWS, COLUMNS), dim=2),
        groups=torch.tensor([[1, 3, 3]]).expand(batch, -1),
        neighbours=torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]]).bool().expand(batch, -1, -1),
        appearance=random(batch, APPEARANCE_DIMS),
        layout=random(*raster, LAYOUT, *size),
        history=random(*raster, 4, *size),
    )


def latent(cond: Conditions, index: int) -> Conditions:
    """The conditions of one latent frame of a sequence."""
    one = slice(index, index + 1)
    return Conditions(
        motion=cond.motion[:, one],
        rays=cond.rays,
        groups=cond.groups,
        neighbours=cond.neighbours,
        appearance=cond.appearance,
        layout=cond.layout[:, :, one],
        history=cond.history[:, :, one],
    )


def new_cache(model: DiT, slots: int = 2) -> KVCache:
    return model.new_cache(VIEWS, ROWS * COLUMNS, slots, dtype=torch.float32)


def fill(
    model: DiT, cache: KVCache, rows: list[int], x: torch.Tensor, cond: Conditions, gaps: list[int]
) -> None:
    """Make the first latent frame the sink and commit the others."""
    model.write_sink(x[:, :, 0], COMMIT, model.embed(latent(cond, 0)), cache, rows)
    for index, gap in enumerate(gaps, start=1):
        ahead = torch.full((len(rows),), gap)
        model.kv_update(x[:, :, index], COMMIT, model.embed(latent(cond, index)), cache, rows, ahead)


@pytest.mark.parametrize("gaps", [[1, 1], [1, 1, 1, 1, 1, 1, 1], [4, 4, 4, 4, 4], [1, 2, 4, 1, 3]])
def test_the_rolling_kv_gives_what_a_full_block_causal_sequence_gives(model: DiT, gaps: list[int]) -> None:
    latents, rows, ahead = len(gaps) + 2, [1, 0], 2
    x = torch.randn(2, VIEWS, latents, CHANNELS, ROWS, COLUMNS)
    cond = conditions(2, latents)
    cache = new_cache(model)
    fill(model, cache, rows, x, cond, gaps)
    step = Step(0, 0.25, 0.25)
    context = cache.context(rows, torch.full((2,), ahead))
    fast = model.denoise(x[:, :, -1], step, model.embed(latent(cond, latents - 1)), context)

    times = torch.tensor([0, *gaps, ahead]).cumsum(0).expand(2, -1)
    tau = torch.full((2, latents), COMMIT.tau)
    size = torch.full((2, latents), COMMIT.size)
    tau[:, -1], size[:, -1] = step.tau, step.size
    naive = model(x, tau, size, model.embed(cond), times, sink=True)[:, :, -1]

    torch.testing.assert_close(fast, naive, rtol=1e-4, atol=1e-4)


def test_modulations_of_all_steps_at_once_are_those_of_each(model: DiT) -> None:
    x, cond = torch.randn(2, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(2, 3)
    cache = new_cache(model)
    fill(model, cache, [0, 1], x, cond, [1])
    embedded = model.embed(latent(cond, 2))
    context = cache.context([0, 1], torch.ones(2, dtype=torch.int64))
    together = model.modulations(model.levels(schedule(4)), embedded)
    made = [
        model.denoise(x[:, :, 2], step, embedded, context, modulation=together[step.number])
        for step in schedule(4)
    ]
    for step, latents in zip(schedule(4), made, strict=True):
        torch.testing.assert_close(latents, model.denoise(x[:, :, 2], step, embedded, context))
    assert not torch.allclose(made[0], made[1])


def test_denoise_never_writes_the_kv_and_kv_update_does(model: DiT) -> None:
    x, cond = torch.randn(1, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(1, 3)
    cache = new_cache(model, slots=1)
    fill(model, cache, [0], x, cond, [1])
    before = cache.slot_state(0)
    one = torch.ones(1, dtype=torch.int64)
    embedded = model.embed(latent(cond, 2))
    model.denoise(x[:, :, 2], Step(0, 0.0, 1.0), embedded, cache.context([0], one))
    assert all(torch.equal(part, before[name]) for name, part in cache.slot_state(0).items())
    model.kv_update(x[:, :, 2], COMMIT, embedded, cache, [0], one)
    assert not torch.equal(cache.slot_state(0)["k"], before["k"])


def test_the_ring_wraps_and_every_slot_knows_its_age(model: DiT) -> None:
    cache = new_cache(model, slots=1)
    x, cond = torch.randn(1, VIEWS, 6, CHANNELS, ROWS, COLUMNS), conditions(1, 6)
    fill(model, cache, [0], x, cond, [1, 2, 4, 1, 2])
    # Commits at times 1, 3, 7, 8, 10; a window of 3 keeps 7, 8 and 10, written at ring places 2, 0 and 1.
    assert cache.age[0].tolist() == [2, 0, 3]
    assert cache.head[0].item() == 2
    assert cache.written[0].all()


def test_sessions_in_one_batch_do_not_influence_each_other(model: DiT) -> None:
    x, cond = torch.randn(2, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(2, 3)
    together, alone = new_cache(model), new_cache(model)
    fill(model, together, [0, 1], x, cond, [1, 1])
    single = Conditions(**{name: part[1:] for name, part in vars(cond).items() if part is not None})
    fill(model, alone, [1], x[1:], single, [1, 1])
    torch.testing.assert_close(together.slot_state(1), alone.slot_state(1))
    assert not alone.written[0, :-1].any()


def test_only_ages_matter_however_long_a_session_has_run(model: DiT) -> None:
    x, cond = torch.randn(1, VIEWS, 4, CHANNELS, ROWS, COLUMNS), conditions(1, 4)
    new, old = new_cache(model, 1), new_cache(model, 1)
    old.now += 20_000_000  # latent frames: 77 days of driving
    old.time += 20_000_000
    for cache in (new, old):
        fill(model, cache, [0], x, cond, [1, 2])
    assert torch.equal(new.age, old.age)
    embedded, ahead = model.embed(latent(cond, 3)), torch.tensor([2])
    results = [
        model.denoise(x[:, :, 3], Step(0, 0.0, 1.0), embedded, cache.context([0], ahead))
        for cache in (new, old)
    ]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [[1, 2], [2, 0], [0, 2]])
def test_sessions_see_their_own_past_wherever_they_lie(model: DiT, rows: list[int]) -> None:
    x, cond = torch.randn(2, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(2, 3)
    embedded, ahead = model.embed(latent(cond, 2)), torch.ones(2, dtype=torch.int64)
    results = []
    for cache, chosen in ((new_cache(model), [0, 1]), (new_cache(model, 3), rows)):
        fill(model, cache, chosen, x, cond, [1])
        context = cache.context(chosen, ahead)
        results.append(model.denoise(x[:, :, 2], Step(0, 0.0, 1.0), embedded, context))
    torch.testing.assert_close(*results)


def test_the_past_is_read_in_place_where_sessions_lie_side_by_side(model: DiT) -> None:
    cache, one = new_cache(model, 3), torch.ones(1, dtype=torch.int64)
    for rows in ([0], [1, 2]):
        past = cache.context(rows, one.expand(len(rows)))._past(cache.k.flatten(4, 5)[0])
        assert past.data_ptr() == cache.k[0, rows[0]].data_ptr()
    narrowed = cache.context([1, 2], one.expand(2)).select(torch.tensor([1]), torch.tensor([2]))
    assert narrowed._past(cache.k.flatten(4, 5)[0]).data_ptr() == cache.k[0, 2, 2].data_ptr()


def test_a_fork_copies_a_slot_and_shares_nothing(model: DiT) -> None:
    cache = new_cache(model)
    x, cond = torch.randn(1, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(1, 3)
    fill(model, cache, [0], x, cond, [1])
    cache.fork(0, 1)
    torch.testing.assert_close(cache.slot_state(0), cache.slot_state(1))
    before = cache.slot_state(1)
    model.kv_update(
        x[:, :, 2], COMMIT, model.embed(latent(cond, 2)), cache, [0], torch.ones(1, dtype=torch.int64)
    )
    torch.testing.assert_close(cache.slot_state(1), before)


def test_slot_state_survives_growth_and_moves_to_another_slot(model: DiT) -> None:
    cache = new_cache(model)
    x, cond = torch.randn(1, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(1, 3)
    fill(model, cache, [0], x, cond, [1, 4])
    state = cache.slot_state(0)
    cache.grow(5)
    torch.testing.assert_close(cache.slot_state(0), state)
    cache.load_slot_state(4, state)
    torch.testing.assert_close(cache.slot_state(4), state)


def test_a_reset_slot_behaves_like_a_new_one(model: DiT) -> None:
    x, cond = torch.randn(1, VIEWS, 3, CHANNELS, ROWS, COLUMNS), conditions(1, 3)
    used, new = new_cache(model, 1), new_cache(model, 1)
    fill(model, used, [0], x, cond, [1, 1])
    used.reset(0)
    embedded, one = model.embed(latent(cond, 2)), torch.ones(1, dtype=torch.int64)
    results = [
        model.denoise(x[:, :, 2], Step(0, 0.0, 1.0), embedded, cache.context([0], one))
        for cache in (used, new)
    ]
    torch.testing.assert_close(*results)


def test_the_seam_around_the_blocks_sees_all_with_the_step_and_can_narrow_to_some_sessions(
    model: DiT,
) -> None:
    x, cond = torch.randn(2, VIEWS, 2, CHANNELS, ROWS, COLUMNS), conditions(2, 2)
    cache = new_cache(model)
    fill(model, cache, [0, 1], x, cond, [1])
    embedded, ahead = model.embed(latent(cond, 1)), torch.ones(2, dtype=torch.int64)
    seen: list[tuple[int, int]] = []
    rows = torch.tensor([1])

    def watching(residuals, h, step):
        seen.append((step, len(residuals)))
        for residual in residuals:
            some, all_rows = residual(h[rows], Part(h, rows)), residual(h)
            torch.testing.assert_close(some, all_rows[rows], rtol=1e-4, atol=1e-4)
            h = h + all_rows
        return h

    results = [
        model.denoise(x[:, :, 1], Step(2, 0.5, 0.25), embedded, cache.context([0, 1], ahead), run_stack)
        for run_stack in (watching, plain_run_stack)
    ]
    assert seen == [(2, CONFIG.depth)]
    assert torch.equal(*results)


def test_the_mask_lets_a_latent_frame_see_its_window_and_the_sink() -> None:
    seen = (block_causal_mask(5, window=2, sink=True) == 0).int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 1, 1, 1]]
