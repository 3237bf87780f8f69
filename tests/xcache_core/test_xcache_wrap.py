"""Other people's blocks: a stack of our own, and two transformers of diffusers with a tiny random configuration."""

import pytest
import torch
from torch import nn

from xcache_core import Layout, Plan, Policy, XCache, report, wrap

LOOSE = Policy(front=0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.rows = 0

    def forward(self, hidden_states, shift, table, *, scale=None):
        self.rows += hidden_states.shape[0]
        return hidden_states + torch.tanh(self.linear(hidden_states)) * table + shift + scale


def stack():
    torch.manual_seed(0)
    return nn.ModuleList([Block() for _ in range(3)]).requires_grad_(False)


def wrapped(blocks, **options):
    cache = XCache(Plan(2, 3, Layout(1, 6, 8)), LOOSE)
    return wrap(blocks, cache, cache.new_state(4), **options)


def run(blocks, x, shift, table, scale):
    for block in blocks:
        x = block(x, shift, table, scale=scale)
    return x


def arguments():
    generator = torch.Generator().manual_seed(1)
    x, shift, scale = (torch.randn(2, n, 8, generator=generator) for n in (6, 1, 1))
    return x, shift, torch.ones(6, 8), scale


def test_a_wrapped_stack_is_called_like_the_original():
    blocks, args = stack(), arguments()
    handle = wrapped(blocks, per_row=[0, "scale"])
    expected = run(blocks, *args)
    with handle.at(slots=[0, 1], chunk=0, step=0):
        assert torch.equal(run(handle.blocks, *args), expected)
    assert handle.originals == list(blocks)


def test_arguments_of_the_rows_that_are_computed_are_gathered():
    blocks, (x, shift, table, scale) = stack(), arguments()
    handle = wrapped(blocks, per_row=[0, "scale"])
    with handle.at(slots=[0, 1], chunk=0, step=0):
        run(handle.blocks, x, shift, table, scale)
    moved = x.clone()
    moved[1] = torch.randn(6, 8)
    with handle.at(slots=[0, 1], chunk=1, step=0):
        got = run(handle.blocks, moved, shift, table, scale)
    torch.testing.assert_close(got, run(blocks, moved, shift, table, scale))
    assert [block.rows for block in blocks] == [2 + 1 + 2] * 3


def test_an_argument_that_may_belong_to_the_rows_is_not_guessed_about():
    blocks, (x, shift, _, scale) = stack(), arguments()
    table = torch.ones(2, 1, 8)
    for options, refused in (({}, True), ({"shared": [1]}, False)):
        handle = wrapped(blocks, per_row=[0, "scale"], **options)
        with handle.at(slots=[0, 1], chunk=0, step=0):
            run(handle.blocks, x, shift, table, scale)
        moved = x.clone()
        moved[1] *= -1
        with handle.at(slots=[0, 1], chunk=1, step=0):
            if refused:
                with pytest.raises(ValueError, match=r"expected argument 1 of shape \[2, 1, 8\] to be named"):
                    run(handle.blocks, moved, shift, table, scale)


def test_who_is_asking_must_be_said_once():
    handle, args = wrapped(stack()), arguments()
    with pytest.raises(RuntimeError, match=r"inside `with wrapped.at\(...\)`, got no pass"):
        run(handle.blocks, *args)
    inside = handle.at(slots=[0, 1], chunk=0, step=1)
    with handle.at(slots=[0, 1], chunk=0, step=0), pytest.raises(RuntimeError, match="one pass at a time"):
        inside.__enter__()
    assert handle.current is None


def test_a_block_that_returns_two_tensors_is_refused():
    class Two(nn.Module):
        def forward(self, hidden_states):
            return hidden_states, hidden_states

    handle = wrapped([Two(), Two(), Two()])
    with handle.at(slots=[0, 1], chunk=0, step=0), pytest.raises(TypeError, match="one tensor, got tuple"):
        handle.blocks[0](arguments()[0])


def test_only_plain_stacks_are_wrapped():
    cache = XCache(Plan(2, 2, Layout(1, 6, 8)))
    with pytest.raises(ValueError, match="expected 2 blocks, got 3"):
        wrap(stack(), cache, cache.new_state(1))
    cache = XCache(Plan(2, 3, Layout(2, 6, 8)))
    with pytest.raises(ValueError, match="one view and one tile"):
        wrap(stack(), cache, cache.new_state(1))


@pytest.fixture(scope="module")
def diffusers():
    import diffusers

    return diffusers


def stream(call, start, chunks=4, change=0.02):
    """Outputs for inputs that change a little from chunk to chunk."""
    generator = torch.Generator().manual_seed(3)
    inputs = [start + change * n * torch.randn(start.shape, generator=generator) for n in range(chunks)]
    with torch.inference_mode():
        return torch.stack([call(n, x) for n, x in enumerate(inputs)])


def check(model, blocks_name, layout, call, start, **options):
    """Bit-equal when every block is vetoed; skipping and near when the gate decides."""
    exact = stream(lambda n, x: call(x), start)
    originals = getattr(model, blocks_name)
    shares = {}
    for name, policy in (("veto", Policy(floor=2.0, front=0)), ("gate", Policy(floor=0.9))):
        cache = XCache(Plan(1, len(originals), layout), policy)
        state = cache.new_state(start.shape[0])
        handle = wrap(originals, cache, state, **options)
        setattr(model, blocks_name, handle.blocks)

        def asked(n, x, handle=handle):
            with handle.at(slots=range(x.shape[0]), chunk=n, step=0):
                return call(x)

        got = stream(asked, start)
        setattr(model, blocks_name, originals)
        shares[name] = report(cache, state).skipped
        if name == "veto":
            assert torch.equal(got, exact)
        else:
            assert (got - exact).norm() < 0.1 * exact.norm()
    assert shares["veto"] == 0.0
    assert shares["gate"] > 0.3


def test_a_diffusers_image_transformer_runs_through_the_cache(diffusers):
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=3, sample_size=8, patch_size=2
    ).eval()
    labels, time = torch.tensor([1, 2]), torch.tensor([500, 500])

    def call(x):
        return model(x, timestep=time, class_labels=labels).sample

    layout = Layout(views=1, tokens=16, channels=16, grid=(1, 4, 4))
    check(
        model,
        "transformer_blocks",
        layout,
        call,
        torch.randn(2, 4, 8, 8),
        per_row=["timestep", "class_labels"],
    )


def test_a_diffusers_video_transformer_runs_through_the_cache(diffusers):
    torch.manual_seed(0)
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_max_seq_len=32,
    ).eval()
    text, time = torch.randn(2, 5, 16), torch.tensor([500, 500])

    def call(x):
        return model(x, timestep=time, encoder_hidden_states=text).sample

    layout = Layout(views=1, tokens=2 * 4 * 4, channels=24, grid=(2, 4, 4))
    check(model, "blocks", layout, call, torch.randn(2, 4, 2, 8, 8), per_row=[0, 1])
