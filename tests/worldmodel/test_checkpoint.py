from pathlib import Path

import pytest
import torch
from torch import nn

from worldmodel.model.checkpoint import (
    CheckpointError,
    checkpoint_config,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from worldmodel.model.config import ConfigError, DiTConfig, ModelConfig, TokenizerConfig, from_mapping
from worldmodel.model.tokenizer import Tokenizer

CONFIG = TokenizerConfig(channels=8, widths=(8, 8, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, CONFIG, Tokenizer(CONFIG).state_dict(), {"steps": 3}, dtype=torch.float32)
    return path


def test_a_checkpoint_comes_back_with_config_weights_and_notes(path: Path) -> None:
    torch.manual_seed(1)
    original = Tokenizer(CONFIG)
    digest = save_checkpoint(path, CONFIG, original.state_dict(), {"steps": 3}, dtype=torch.float32)
    checkpoint = load_checkpoint(path)
    assert checkpoint_config(checkpoint, TokenizerConfig) == CONFIG
    assert (checkpoint.digest, checkpoint.notes) == (digest, {"steps": 3})
    loaded = load_weights(Tokenizer(CONFIG), checkpoint)
    torch.testing.assert_close(loaded.state_dict(), original.state_dict())


def test_a_changed_byte_is_noticed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="corrupted"):
        load_checkpoint(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="expected a whole safetensors file"):
        load_checkpoint(path)


def test_a_missing_file_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="expected format"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_weights_of_another_config_are_refused_by_name_and_shape(path: Path) -> None:
    wider = Tokenizer(TokenizerConfig(channels=8, widths=(16, 8, 8)))
    with pytest.raises(CheckpointError, match=r"decoder.*: expected \[.*16.*\], got \[.*8.*\].* more"):
        load_weights(wider, load_checkpoint(path))
    with pytest.raises(CheckpointError, match="missing"):
        load_weights(nn.Linear(2, 2), load_checkpoint(path))


def test_unknown_config_keys_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"expected keys among name, .*, got colour"):
        from_mapping(ModelConfig, {"name": "x", "colour": 1})
    with pytest.raises(ConfigError, match="height: expected a multiple of 16, got 100"):
        from_mapping(ModelConfig, {"name": "x", "height": 100})


def test_config_values_of_another_type_are_refused() -> None:
    with pytest.raises(ConfigError, match="height: expected int, got 'tall'"):
        from_mapping(ModelConfig, {"name": "x", "height": "tall"})
    with pytest.raises(ConfigError, match=r"trunk: expected tuple\[int, int\], got \[128\]"):
        from_mapping(DiTConfig, {"trunk": [128]})
    assert from_mapping(DiTConfig, {"trunk": [128, 256]}).trunk == (128, 256)
