"""Snapshots as bytes: msgpack with arrays, a format version and a digest. No pickle.

Layout: 8 bytes magic and version, 32 bytes SHA-256 of the body, body (zlib-compressed msgpack map).
"""

import hashlib
import zlib
from typing import Any

import msgpack
import numpy as np

MAGIC = b"RLSNAP\x00\x02"
MAX_BODY_BYTES = 1 << 30
_ARRAY = "__ndarray__"


class SnapshotError(ValueError):
    """Bytes that are not a whole, unharmed snapshot of this version."""


def pack(state: dict[str, Any]) -> bytes:
    """Encode plain data (dict, list, str, int, float, bool, None, bytes, numpy arrays of numbers)."""
    body = zlib.compress(msgpack.packb(state, default=_encode, use_bin_type=True), level=1)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(snapshot: bytes) -> dict[str, Any]:
    """Decode what `pack` made.

    Raises:
        SnapshotError: another format or version, truncated, or changed since it was written.
    """
    if snapshot[:8] != MAGIC:
        raise SnapshotError(f"expected a snapshot starting with {MAGIC!r}, got {bytes(snapshot[:8])!r}")
    digest, body = snapshot[8:40], snapshot[40:]
    found = hashlib.sha256(body).digest()
    if found != digest:
        raise SnapshotError(
            f"expected digest {digest.hex()[:16]}, got {found.hex()[:16]}: truncated or corrupt"
        )
    inflater = zlib.decompressobj()
    data = inflater.decompress(body, MAX_BODY_BYTES)
    if inflater.unconsumed_tail:
        raise SnapshotError(f"expected at most {MAX_BODY_BYTES} bytes, got more")
    state: dict[str, Any] = msgpack.unpackb(data, object_hook=_decode, raw=False, strict_map_key=False)
    return state


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {_ARRAY: [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"expected plain data or a numeric array, got {type(value).__name__}")


def _decode(value: dict[str, Any]) -> Any:
    if _ARRAY not in value:
        return value
    dtype, shape, data = value[_ARRAY]
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
