"""Which weights an engine `worldmodel` runs with, decided without importing the model: the front end asks too."""

from importlib.util import find_spec
from pathlib import Path

DEFAULT_MODEL = "S"


class NoWeightsError(ValueError):
    """There is no model to run. The message says how to get one."""


def choose_model(asked: str | None) -> str:
    """What `load_world_model` is to load: the asked name or file, else what is shipped, the default first.

    Raises:
        NoWeightsError: nothing is shipped, or the file does not exist.
    """
    if asked is None:
        shipped = shipped_weights()
        if not shipped:
            raise NoWeightsError(
                "expected weights of the world model in the package, got none: train some (docs/worldmodel.md) and "
                "name the file with --set 'engine_options={model: FILE.safetensors}', or serve --engine reference"
            )
        return DEFAULT_MODEL if DEFAULT_MODEL in shipped else shipped[0]
    if asked.endswith(".safetensors") and not Path(asked).expanduser().is_file():
        raise NoWeightsError(f"expected a file of weights, got {asked!r}, which does not exist")
    return asked


def shipped_weights() -> list[str]:
    """Names of the models whose weights are installed, in alphabetical order."""
    spec = find_spec("worldmodel")
    assert spec is not None
    assert spec.origin is not None
    return sorted(path.stem for path in (Path(spec.origin).parent / "weights").glob("*.safetensors"))
