"""Blocks asked for single views or regions give what they give as a whole; queries are gathered, keys are full."""

import pytest
import torch

from worldmodel.model.blocks import Block, BlockInputs, BlockResidual, Part
from worldmodel.model.config import DiTConfig
from worldmodel.model.kv_context import KVContext
from worldmodel.model.rope import grid_table

SESSIONS, VIEWS, ROWS, COLUMNS, WIDTH = 2, 3, 2, 4, 128
TOKENS = ROWS * COLUMNS
CONFIG = DiTConfig(width=WIDTH, depth=2, window=2, temporal_dims=32)


@pytest.fixture
def inputs() -> BlockInputs:
    """Random inputs of one pass; the first and the last camera do not see each other."""
    torch.manual_seed(0)
    keys = torch.randn(2, SESSIONS, VIEWS, CONFIG.heads, 4 * TOKENS, 64)
    angles = torch.randn(SESSIONS, 1, 1, VIEWS * TOKENS, 32)
    seen = torch.ones(VIEWS, VIEWS)
    seen[0, 2] = seen[2, 0] = 0
    mask = seen.log().repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)
    return BlockInputs(
        modulation=torch.randn(SESSIONS, VIEWS, 1, 6 * WIDTH),
        grid=grid_table(ROWS, COLUMNS, 32),
        directions=(angles.cos(), angles.sin()),
        neighbours=mask.expand(SESSIONS, 1, 1, -1, -1),
        memory=KVContext(keys, torch.randn_like(keys), torch.zeros(SESSIONS, 4 * TOKENS)),
    )


def block_of(index: int) -> Block:
    """A block whose zero-initialised parts are alive."""
    block = Block(CONFIG, index).requires_grad_(False)
    for parameter in block.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def test_the_stages_one_after_another_are_the_block(inputs: BlockInputs) -> None:
    x = torch.randn(SESSIONS, VIEWS, TOKENS, WIDTH)
    for index, count in ((0, 1), (1, 2)):
        residual, y = BlockResidual(block_of(index), lambda: inputs), x
        assert len(residual.stages) == count
        for stage in residual.stages:
            assert stage.stages == (stage,)
            y = y + stage(y)
        torch.testing.assert_close(y, x + residual(x))


@pytest.mark.parametrize("index", [0, 1])
def test_single_views_are_computed_as_in_the_whole(inputs: BlockInputs, index: int) -> None:
    x = torch.randn(SESSIONS, VIEWS, TOKENS, WIDTH)
    sessions, views = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 2])
    for stage in BlockResidual(block_of(index), lambda: inputs).stages:
        part = stage(x[sessions, views].unsqueeze(1), Part(x, sessions, views))
        torch.testing.assert_close(part.squeeze(1), stage(x)[sessions, views], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("index", [0, 1])
def test_regions_look_at_every_token_of_what_they_see(inputs: BlockInputs, index: int) -> None:
    x = torch.randn(SESSIONS, VIEWS, TOKENS, WIDTH)
    sessions, views = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 2])
    tokens = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [0, 1, 4, 5]])
    for stage in BlockResidual(block_of(index), lambda: inputs).stages:
        chosen = (sessions[:, None], views[:, None], tokens)
        part = stage(x[chosen].unsqueeze(1), Part(x, sessions, views, tokens))
        torch.testing.assert_close(part.squeeze(1), stage(x)[chosen], rtol=1e-4, atol=1e-4)


def test_whole_sessions_are_chosen_without_stages(inputs: BlockInputs) -> None:
    x, residual = torch.randn(SESSIONS, VIEWS, TOKENS, WIDTH), BlockResidual(block_of(1), lambda: inputs)
    sessions = torch.tensor([1])
    torch.testing.assert_close(
        residual(x[sessions], Part(x, sessions)), residual(x)[sessions], rtol=1e-4, atol=1e-4
    )


def test_single_views_of_a_block_that_sees_all_cameras_are_refused(inputs: BlockInputs) -> None:
    x = torch.randn(SESSIONS, VIEWS, TOKENS, WIDTH)
    with pytest.raises(ValueError, match="expected whole sessions, got single views"):
        BlockResidual(block_of(1), lambda: inputs)(x[:1, :1], Part(x, torch.tensor([0]), torch.tensor([0])))
