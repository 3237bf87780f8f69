import pytest
import torch

from worldmodel.model.dit import channels_innermost
from worldmodel.model.noise import camera_noise, chunk_noise
from worldmodel.model.sampler import sample, schedule

SHAPE = (4, 6, 10)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_network_that_knows_the_answer_is_followed_to_it_in_any_number_of_steps(steps: int) -> None:
    answer, noise = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(sample(lambda x, step: answer, noise, schedule(steps)), answer)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_euler_steps_solve_the_flow_of_a_gaussian_as_closely_as_their_number_allows(steps: int) -> None:
    # Data N(0, s^2): the best clean prediction is x tau s^2 / ((1 - tau)^2 + tau^2 s^2), and the exact flow maps
    # noise z to s z.
    s = 0.5

    def denoise(x: torch.Tensor, step) -> torch.Tensor:
        tau = step.tau
        return x * tau * s**2 / ((1 - tau) ** 2 + tau**2 * s**2)

    noise = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    error = (sample(denoise, noise, schedule(steps)) - s * noise).abs().mean().item()
    assert error < {1: 0.45, 2: 0.28, 4: 0.15, 8: 0.08}[steps]


def test_the_steps_of_a_schedule_are_uniform_and_only_known_counts_are_accepted() -> None:
    assert [(s.number, s.tau, s.size) for s in schedule(4)] == [
        (0, 0, 0.25),
        (1, 0.25, 0.25),
        (2, 0.5, 0.25),
        (3, 0.75, 0.25),
    ]
    with pytest.raises(ValueError, match="expected 1, 2, 4 or 8 steps, got 3"):
        schedule(3)


def test_noise_depends_on_seed_cycle_and_camera_alone() -> None:
    both = chunk_noise(7, 3, ["front", "rear"], SHAPE)
    alone = chunk_noise(7, 3, ["rear"], SHAPE)
    assert torch.equal(both[1], alone[0])
    others = [(8, 3, "rear"), (7, 4, "rear"), (7, 3, "front")]
    for seed, cycle, camera in others:
        assert abs(float((camera_noise(seed, cycle, camera, SHAPE) * alone[0].numpy()).mean())) < 0.3


def test_noise_is_gaussian_and_never_changes_between_versions() -> None:
    noise = chunk_noise(0, 0, ["front"], (32, 16, 16))
    assert abs(noise.mean().item()) < 0.05
    assert abs(noise.std().item() - 1) < 0.05
    again = chunk_noise(0, 0, ["front"], (32, 16, 16))
    assert torch.equal(noise, again)


def test_neighbouring_cycles_do_not_share_parts_of_their_streams() -> None:
    first, second = (camera_noise(1, cycle, "front", (1, 64, 64)).ravel() for cycle in (0, 1))
    assert not set(first.tolist()) & set(second.tolist())


def test_noise_laid_out_as_tokens_are_is_the_same_noise_and_stays_so_from_step_to_step() -> None:
    noise = chunk_noise(7, 3, ["front", "rear"], SHAPE)[None]
    laid_out = channels_innermost(noise)
    assert torch.equal(laid_out, noise)
    stepped = sample(lambda x, step: channels_innermost(x * 0.5), laid_out, schedule(4))
    for x in (laid_out, stepped):
        assert x.flatten(-2).transpose(-1, -2).is_contiguous()
