"""A world model in miniature: denoising steps, a stack of blocks that read a rolling KV, chunks in cycles of four."""

from dataclasses import replace

import pytest
import torch

from xcache_core import KVCycle, Layout, Plan, Policy, XCache, report

STEPS, BLOCKS, WINDOW, VIEWS, TOKENS, CHANNELS = 4, 8, 3, 2, 24, 16
CYCLE = KVCycle(4)


class ToyWorld:
    """Latents [1, V, N, C] of a scene that turns slowly; what it makes of one chunk is read by the next cycles."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.mix = [self._weight(CHANNELS, 0.5) for _ in range(BLOCKS)]
        self.read = [self._weight(CHANNELS, 1.5) for _ in range(BLOCKS)]
        self.scene = torch.randn(2, VIEWS, TOKENS, CHANNELS, generator=self.generator)
        self.kv = [torch.zeros(1, VIEWS, TOKENS, CHANNELS)]

    def _weight(self, size, gain):
        return torch.randn(size, size, generator=self.generator) * gain / size**0.5

    def block(self, b):
        context = torch.tanh(torch.stack(self.kv[-WINDOW:]).mean(0) @ self.read[b])

        def run(x, request):
            return x + 0.2 * torch.tanh(x @ self.mix[b] + context.index_select(0, request.batch))

        return run

    def chunk(self, cache, state, n, noise_epoch, speed):
        angle = torch.tensor(speed * n)
        condition = (self.scene[0] * angle.cos() + self.scene[1] * angle.sin()).unsqueeze(0)
        z = torch.randn(condition.shape, generator=torch.Generator().manual_seed(1000 + noise_epoch))
        for t in range(STEPS):
            x = 0.5 * z + condition
            at = cache.enter(state, slots=[0], chunk=n, step=t, role=CYCLE.role(n))
            for b in range(BLOCKS):
                x = at.run_block(b, self.block(b), x)
            z = z + (x - z) / (STEPS - t)
        return z


PLAN = Plan(STEPS, BLOCKS, Layout(VIEWS, TOKENS, CHANNELS, grid=(1, 4, 6)))


def drive(policy, *, chunks=24, noise_epoch=CYCLE.noise_epoch, speed=0.02):
    """A free-running rollout; what is committed comes from this rollout's own chunks."""
    world, cache = ToyWorld(), XCache(PLAN, policy)
    state, made = cache.new_state(1), []
    for n in range(chunks):
        made.append(world.chunk(cache, state, n, noise_epoch(n), speed))
        if n % CYCLE.period == 0:
            world.kv.append(made[-1])
    return torch.stack(made), report(cache, state)


def psnr(a, b, peak=6.0):
    return (10 * torch.log10(peak**2 / (a - b).square().mean())).item()


@pytest.fixture(scope="module")
def truth():
    return drive("exact")[0]


@pytest.fixture(scope="module")
def balanced():
    return drive("balanced")


def test_skips_stay_below_the_plateau_that_the_cycle_allows(truth, balanced):
    made, seen = balanced
    plateau = 0.75 * (BLOCKS - 1) / BLOCKS
    assert 0.5 < seen.skipped <= plateau
    assert seen.skip_matrix[0][0] == 0.0
    assert max(max(row) for row in seen.skip_matrix) <= 0.75
    assert psnr(made, truth) > 30


def test_every_committed_chunk_is_exact_so_that_errors_are_seen_once(truth, balanced):
    made, _ = balanced
    assert torch.equal(made[:: CYCLE.period], truth[:: CYCLE.period])
    assert not torch.equal(made, truth)


def test_without_kv_protection_errors_feed_back():
    held = {"noise_epoch": lambda n: 0}
    exact = drive("exact", **held)[0]
    protected = drive("balanced", **held)
    loose = drive(Policy(kv_steps=0), **held)
    assert loose[1].skipped > protected[1].skipped
    assert psnr(loose[0], exact) < psnr(protected[0], exact) - 6
    committed = slice(None, None, CYCLE.period)
    assert torch.equal(protected[0][committed], exact[committed])
    assert psnr(loose[0][committed][-4:], exact[committed][-4:]) < 45


def test_fresh_noise_in_every_chunk_leaves_nothing_to_reuse(balanced):
    _, shared = balanced
    _, fresh = drive("balanced", noise_epoch=lambda n: n, chunks=12)
    assert fresh.skip_matrix[0][1] < 0.1 < shared.skip_matrix[0][1]


def test_a_scene_that_moves_faster_is_computed_more():
    shares = [drive("balanced", chunks=16, speed=speed)[1].skipped for speed in (0.0, 0.1, 0.6)]
    assert shares[0] > shares[2]
    assert shares == sorted(shares, reverse=True)


def test_protecting_step_zero_costs_skips_and_not_quality(truth, balanced):
    made, seen = drive(Policy(protect_step0="on"))
    plain = balanced
    assert seen.skip_matrix[0] == [0.0] * BLOCKS
    assert seen.skipped < plain[1].skipped
    assert psnr(made, truth) >= psnr(plain[0], truth) - 1


def test_a_tighter_tier_is_nearer_to_the_truth(truth):
    quality = [
        psnr(drive(policy)[0], truth) for policy in (Policy(floor=-1, margin=9, max_deviation=99), "safe")
    ]
    assert quality[0] < quality[1]


def test_staggered_refreshes_flatten_the_cost_of_a_chunk():
    policy = replace(Policy(front=0, warm_up=1), kv_steps=0, refresh_every=4)
    computed = {}
    for stagger in (True, False):
        world, cache = ToyWorld(), XCache(PLAN, replace(policy, stagger=stagger))
        state, before, each = cache.new_state(1), 0, []
        for n in range(12):
            world.chunk(cache, state, n, 0, 0.01)
            seen = report(cache, state)
            total = seen.decisions - seen.reasons["skipped"]
            each.append(total - before)
            before = total
        computed[stagger] = each[4:]
    assert max(computed[False]) == STEPS * BLOCKS
    assert max(computed[True]) < max(computed[False]) / 2
