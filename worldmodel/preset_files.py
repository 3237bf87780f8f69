"""Where the YAML presets live: `configs/` in a checkout, `worldmodel/presets/` in an installed wheel."""

from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent


class PresetError(ValueError):
    """A preset that does not exist. The message lists those that do."""


def preset_path(kind: str, name: str) -> Path:
    """The YAML file of a preset, or of a path given instead of a name.

    Args:
        kind: folder of presets: `scenarios`, `rigs`, `models`, ...
        name: a preset's name, or the path of a file ending in .yaml or .yml.

    Raises:
        PresetError: no such preset (the message lists the valid names), or no such file.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise PresetError(f"expected a {_singular(kind)} file, got {name!r}, which does not exist")
        return path
    names = preset_names(kind)
    if name not in names:
        raise PresetError(f"expected one of the {kind} {', '.join(names) or '(none)'}, got {name!r}")
    return presets_dir() / kind / f"{name}.yaml"


def preset_names(kind: str) -> tuple[str, ...]:
    """Names of all presets of a kind, in alphabetical order; () for a kind without any."""
    return tuple(sorted(path.stem for path in (presets_dir() / kind).glob("*.yaml")))


def presets_dir() -> Path:
    """The folder that holds one folder per kind.

    Raises:
        PresetError: neither a wheel's presets nor a checkout's configs are there: a broken installation.
    """
    for folder in (PACKAGE_DIR / "presets", PACKAGE_DIR.parent / "configs"):
        if folder.is_dir():
            return folder
    raise PresetError(
        f"expected presets in {PACKAGE_DIR / 'presets'} or in configs/ beside the package, got neither"
    )


def _singular(kind: str) -> str:
    return kind.removesuffix("s")
