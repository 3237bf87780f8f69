from dataclasses import replace

import pytest
import torch

from worldmodel.model.config import TokenizerConfig
from worldmodel.model.history import History
from worldmodel.model.tokenizer import BOUND, Tokenizer

CONFIG = TokenizerConfig(channels=8, widths=(8, 12, 16), decoder_blocks=1, guide_channels=2)


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(CONFIG).eval().requires_grad_(False)
    for parameter in tokenizer.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return tokenizer


def test_a_latent_frame_is_sixteen_times_smaller_and_decodes_to_four_images(tokenizer: Tokenizer) -> None:
    frames = torch.rand(2, 3, 4, 3, 32, 48)
    latents = tokenizer.encode(frames)
    assert latents.shape == (2, 3, 8, 2, 3)
    assert tokenizer.decode(latents).shape == frames.shape


def test_streaming_a_clip_chunk_by_chunk_equals_the_whole_clip(tokenizer: Tokenizer) -> None:
    clip = torch.rand(5, 4, 3, 32, 32)
    whole = tokenizer.decode(tokenizer.encode(clip))
    chunks = [tokenizer.decode(tokenizer.encode(chunk)) for chunk in clip]
    torch.testing.assert_close(torch.stack(chunks), whole)


def test_latents_are_bounded_before_they_are_standardised(tokenizer: Tokenizer) -> None:
    raw = tokenizer.encode_raw(100 * torch.randn(4, 4, 3, 32, 32))
    assert raw.abs().max() <= BOUND


def test_standardised_latents_have_mean_zero_and_spread_one_in_every_channel(tokenizer: Tokenizer) -> None:
    frames = torch.rand(16, 4, 3, 32, 32)
    tokenizer.set_statistics(tokenizer.encode_raw(frames))
    latents = tokenizer.encode(frames)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_standardisation_does_not_change_what_is_decoded(tokenizer: Tokenizer) -> None:
    frames = torch.rand(8, 4, 3, 32, 32)
    before = tokenizer.decode(tokenizer.encode(frames))
    tokenizer.set_statistics(tokenizer.encode_raw(frames))
    torch.testing.assert_close(tokenizer.decode(tokenizer.encode(frames)), before, atol=1e-4, rtol=1e-4)


def test_a_guide_changes_what_is_decoded_and_may_be_stored_as_int8(tokenizer: Tokenizer) -> None:
    latents, guide = torch.randn(2, 8, 2, 3), torch.randint(-127, 128, (2, 4, 2, 8, 12), dtype=torch.int8)
    stored, real = tokenizer.decode(latents, guide), tokenizer.decode(latents, guide / 127)
    torch.testing.assert_close(stored, real)
    assert not torch.allclose(stored, tokenizer.decode(latents))


def test_a_decoder_takes_carried_detail_only_where_it_is_valid_and_light_from_the_latent() -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(replace(CONFIG, carried=True)).eval().requires_grad_(False)
    latents, valid = torch.randn(1, 8, 2, 3), torch.zeros(1, 4, 8, 12)
    valid[..., 6:] = 1
    pictures = torch.rand(1, 4, 3, 32, 48)
    alone = tokenizer.decode(latents)
    made = tokenizer.decode(latents, None, History(pictures, valid))
    torch.testing.assert_close(made[..., :24], alone[..., :24])  # a fresh decoder does not look yet, it takes
    assert not torch.allclose(made[..., 24:], alone[..., 24:])
    brighter = tokenizer.decode(latents, None, History(pictures + 0.3, valid))
    torch.testing.assert_close(brighter, made, atol=1e-5, rtol=1e-5)


def test_a_decoder_that_was_not_made_for_carried_pictures_leaves_them_alone(tokenizer: Tokenizer) -> None:
    latents, carried = torch.randn(1, 8, 2, 3), History(torch.rand(1, 4, 3, 32, 48), torch.ones(1, 4, 8, 12))
    torch.testing.assert_close(tokenizer.decode(latents, None, carried), tokenizer.decode(latents))
