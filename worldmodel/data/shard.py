"""Episodes as files: one safetensors file per episode, pictures compressed one by one, a digest over everything.

Layout of a file (docs/data.md): small tables as they are; pictures, layouts and depth as one byte string each
(`X.data`, uint8) with the end of every item (`X.end`, int64 [V, F], cameras one after another), so that a clip of
one camera is one contiguous read. The header's only entry, `episode`, is JSON. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .episode import Episode, EpisodeInfo

FrameCodec = Literal["png", "jpeg"]  # lossless, or quality 95
FRAME_CODECS: tuple[FrameCodec, ...] = get_args(FrameCodec)

_ENCODERS: dict[str, tuple[str, list[int]]] = {
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
}
_ARRAYS = ("layouts", "depth_m")


class ShardError(ValueError):
    """A shard that cannot be read. The message names the file."""


def write_shard(path: Path, episode: Episode, codec: FrameCodec = "png") -> None:
    """Write an episode so that the file is either complete or not there. Equal episodes give equal bytes."""
    arrays: dict[str, np.ndarray] = {"pose_deltas": episode.pose_deltas, "actions": episode.actions}
    arrays |= {f"tables.{name}": table for name, table in episode.tables.items()}
    arrays |= _pack("frames", episode.frames, lambda picture: encode_picture(picture, codec))
    header: dict[str, Any] = {"info": episode.info.to_dict(), "codec": codec, "arrays": {}}
    for name in _ARRAYS:
        array = getattr(episode, name)
        if array is not None:
            arrays |= _pack(name, array, lambda item: zlib.compress(np.ascontiguousarray(item).tobytes(), 1))
            header["arrays"][name] = {"dtype": array.dtype.str, "shape": array.shape[2:]}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header["digest"] = _digest(sorted(arrays.items()))
    partial = path.with_suffix(f".tmp{os.getpid()}")
    save_file(arrays, partial, metadata={"episode": json.dumps(header, sort_keys=True)})
    os.replace(partial, path)


class Shard:
    """An episode on disk; reads only what is asked for. Safe to use from one thread at a time.

    Args:
        path: the file.
        verify: check the digest of the whole file first (about 1 s per GB).

    Raises:
        ShardError: a file that is truncated, damaged, or no episode.
    """

    def __init__(self, path: Path, verify: bool = False):
        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="np"))
            header = json.loads((self._file.metadata() or {})["episode"])
            self.info = EpisodeInfo.from_dict(header["info"])
            self._arrays, self._digest = header["arrays"], header["digest"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ShardError(f"expected a complete episode in {path}, got {_words(error)}") from error
        if verify:
            self.verify()

    def __len__(self) -> int:
        return len(self.pose_deltas)

    @property
    def digest(self) -> str:
        """SHA-256 over all arrays, hexadecimal, as recorded."""
        return str(self._digest)

    @property
    def has_layout(self) -> bool:
        """Whether layouts and depth were recorded."""
        return "layouts" in self._arrays

    @cached_property
    def pose_deltas(self) -> np.ndarray:
        """float32 [F, 3], see `Episode`."""
        return self._array("pose_deltas")

    @cached_property
    def actions(self) -> np.ndarray:
        """float32 [F, A], see `Episode`."""
        return self._array("actions")

    @cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """What happened, see `tables`."""
        names = [name for name in self._file.keys() if name.startswith("tables.")]  # noqa: SIM118 (no mapping)
        return {name.removeprefix("tables."): self._array(name) for name in names}

    def frames(self, views: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Pictures uint8 [V, F, H, W, 3] of some cameras (positions in the rig), frames start to stop - 1."""
        return self._read("frames", views, start, stop, self._decode_picture)

    def layouts(self, views: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Layouts [V, F, C, h, w]. Raises ShardError where none were recorded."""
        return self._read("layouts", views, start, stop, self._decode_array("layouts"))

    def depth_m(self, views: Sequence[int], start: int, stop: int) -> np.ndarray:
        """Distance from the camera, float16 [V, F, h, w]. Raises ShardError where none was recorded."""
        return self._read("depth_m", views, start, stop, self._decode_array("depth_m"))

    def load(self) -> Episode:
        """The whole episode."""
        everything = (range(len(self.info.rig)), 0, len(self))
        return Episode(
            info=self.info,
            frames=self.frames(*everything),
            pose_deltas=self.pose_deltas,
            actions=self.actions,
            tables=self.tables,
            layouts=self.layouts(*everything) if self.has_layout else None,
            depth_m=self.depth_m(*everything) if self.has_layout else None,
        )

    def verify(self) -> None:
        """Compare the digest of all arrays with the recorded one. Raises ShardError where they differ."""
        found = _digest((name, self._array(name)) for name in sorted(self._file.keys()))
        if found != self.digest:
            raise ShardError(
                f"expected {self.path} to have digest {self.digest[:16]}, got {found[:16]}: the file is damaged, "
                "remove it and build again"
            )

    @cached_property
    def _ends(self) -> dict[str, np.ndarray]:
        return {name: self._array(f"{name}.end") for name in ("frames", *self._arrays)}

    def _read(
        self, name: str, views: Sequence[int], start: int, stop: int, decode: Callable[[bytes], np.ndarray]
    ) -> np.ndarray:
        if name not in self._ends:
            raise ShardError(f"expected an episode with {name}, got {self.path}, which was built without")
        if not 0 <= start < stop <= len(self):
            raise IndexError(f"expected frames within 0..{len(self)}, got {start}..{stop}")
        return np.stack([self._read_view(name, view, start, stop, decode) for view in views])

    def _read_view(
        self, name: str, view: int, start: int, stop: int, decode: Callable[[bytes], np.ndarray]
    ) -> np.ndarray:
        ends = self._ends[name].reshape(-1)
        first = view * len(self) + start
        bounds = [int(ends[first - 1]) if first else 0, *ends[first : first + stop - start].tolist()]
        data = self._file.get_slice(f"{name}.data")[bounds[0] : bounds[-1]].tobytes()
        return np.stack([decode(data[low - bounds[0] : high - bounds[0]]) for low, high in pairwise(bounds)])

    def _decode_picture(self, data: bytes) -> np.ndarray:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise ShardError(
                f"expected pictures in {self.path}, got bytes that are none: the file is damaged"
            )
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def _decode_array(self, name: str) -> Callable[[bytes], np.ndarray]:
        if name not in self._arrays:
            raise ShardError(f"expected an episode with {name}, got {self.path}, which was built without")
        dtype, shape = np.dtype(self._arrays[name]["dtype"]), self._arrays[name]["shape"]

        def decode(data: bytes) -> np.ndarray:
            try:
                return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)
            except (zlib.error, ValueError) as error:
                raise ShardError(
                    f"expected {name} in {self.path}, got {error}: the file is damaged"
                ) from error

        return decode

    def _array(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._file.get_tensor(name))
        except SafetensorError as error:
            raise ShardError(f"expected {name} in {self.path}, got {_words(error)}") from error


def encode_picture(picture: np.ndarray, codec: FrameCodec) -> bytes:
    """One picture uint8 [H, W, 3] RGB as PNG, or as JPEG of quality 95."""
    suffix, options = _ENCODERS[codec]
    return bytes(cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes())


def _pack(name: str, array: np.ndarray, encode: Callable[[np.ndarray], bytes]) -> dict[str, np.ndarray]:
    """Every item [v, f] encoded, one after another, and where each ends."""
    items = [encode(item) for view in array for item in view]
    ends = np.cumsum([len(item) for item in items], dtype=np.int64).reshape(array.shape[:2])
    return {f"{name}.data": np.frombuffer(b"".join(items), np.uint8), f"{name}.end": ends}


def _digest(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over names, types, shapes and bytes; `arrays` in the order of their names."""
    total = hashlib.sha256()
    for name, array in arrays:
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
