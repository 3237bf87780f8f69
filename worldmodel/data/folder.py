"""A folder of episodes: `dataset.json` says how it is built, `index.json` what is there, one file per episode.

The shards are the truth: the index only saves opening them, and is rebuilt from them whenever it lags behind.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .plan import BuildError, BuildSettings
from .shard import Shard

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """One complete episode on disk, as the index lists it."""

    file: str
    size_bytes: int
    index: int
    scenario: str
    seed: int
    driver: str
    frames: int
    outcome: str
    digest: str


class EpisodeFolder:
    """A data folder. Reading needs no index and works while somebody else writes.

    Raises:
        BuildError: from `settings`, when the folder holds no readable `dataset.json`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def shard_path(self, index: int) -> Path:
        """Where episode `index` lies or will lie."""
        return self.path / f"episode_{index:06d}{SUFFIX}"

    def settings(self) -> BuildSettings:
        """What the folder is built with."""
        try:
            return BuildSettings.from_dict(json.loads((self.path / "dataset.json").read_text("utf-8")))
        except FileNotFoundError:
            raise BuildError(f"expected a data folder with dataset.json, got {self.path}") from None
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise BuildError(f"expected settings in {self.path / 'dataset.json'}, got {error}") from error

    def begin(self, settings: BuildSettings) -> None:
        """Create the folder, or check that it can be continued with these settings; remove half-written files.

        Raises:
            BuildError: it was begun with other settings, or holds other things.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "dataset.json").exists():
            settings.check_continues(self.settings())
        elif any(self.path.iterdir()):
            raise BuildError(f"expected an empty folder or one with dataset.json, got {self.path}")
        write_json(self.path / "dataset.json", settings.to_dict())
        for partial in self.path.glob("*.tmp*"):
            partial.unlink()

    def entries(self) -> list[Entry]:
        """All complete episodes, by index. A shard that is not in the index yet is opened for its header.

        Raises:
            ShardError: a file that is damaged; the message names it.
        """
        known = {entry.file: entry for entry in self._read_index()}
        found = []
        for path in sorted(self.path.glob(f"episode_*{SUFFIX}")):
            entry = known.get(path.name)
            if entry is None or entry.size_bytes != path.stat().st_size:
                entry = describe(path)
            found.append(entry)
        return found

    def write_index(self) -> list[Entry]:
        """Rebuild `index.json` from the shards and return it."""
        entries = self.entries()
        write_json(self.path / "index.json", {"episodes": [asdict(entry) for entry in entries]})
        return entries

    def _read_index(self) -> list[Entry]:
        try:
            data = json.loads((self.path / "index.json").read_text("utf-8"))
            return [Entry(**entry) for entry in data["episodes"]]
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return []  # none, or from another version: the shards say it all


def describe(path: Path) -> Entry:
    """The index entry of one shard. Raises ShardError where it is damaged."""
    shard = Shard(path)
    info = shard.info
    return Entry(
        file=path.name,
        size_bytes=path.stat().st_size,
        index=info.index,
        scenario=info.scenario,
        seed=info.seed,
        driver=info.driver,
        frames=len(shard),
        outcome=info.outcome,
        digest=shard.digest,
    )


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON so that the file is either complete or as before."""
    partial = path.with_name(f"{path.name}.tmp{os.getpid()}")
    partial.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    os.replace(partial, path)
