"""The wire of openpi's policy servers: one msgpack map per binary WebSocket frame, arrays as tagged maps. Nothing but bytes here.

After the handshake the server sends a map that describes it. Then every observation (a map) is answered by a map with `actions`, or by a text
frame with the error, after which the server closes. Arrays are `{b"__ndarray__": True, b"data", b"dtype", b"shape"}`, scalars of numpy
`{b"__npgeneric__": True, b"data", b"dtype"}`; objects, structures and complex numbers are refused on both sides.

Source: Physical-Intelligence/openpi, packages/openpi-client/src/openpi_client/msgpack_numpy.py.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from ..errors import RoadloopError

MAX_BYTES = 1 << 28
KINDS = "biuf"  # of dtypes


class OpenPiError(RoadloopError, ValueError):
    """Bytes that are not a message of this protocol."""


def pack(message: Mapping[str, Any]) -> bytes:
    """One message."""
    packed: bytes = msgpack.packb(dict(message), default=_tag)
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """One message; its arrays are read-only views of the bytes.

    Raises:
        OpenPiError: not msgpack, not a map, an array of a dtype or size that is not allowed.
    """
    try:
        message = msgpack.unpackb(data, object_hook=_untag, strict_map_key=False)
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise OpenPiError(
            f"expected a message of an openpi policy server, got {error or type(error).__name__}"
        ) from None
    if not isinstance(message, dict):
        raise OpenPiError(f"expected a map, got {type(message).__name__}")
    return message


def _tag(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind not in KINDS:
        raise TypeError(f"expected numbers, got dtype {value.dtype}")
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        return {
            b"__ndarray__": True,
            b"data": data.tobytes(),
            b"dtype": data.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"expected plain data and arrays, got {type(value).__name__}")


def _untag(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        dtype, shape = _dtype(value[b"dtype"]), tuple(int(size) for size in value[b"shape"])
        if (
            len(shape) > 8
            or min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != len(value[b"data"])
        ):
            raise ValueError(f"an array of shape {shape} in {len(value[b'data'])} bytes")
        return np.frombuffer(value[b"data"], dtype).reshape(shape)
    if b"__npgeneric__" in value:
        return _dtype(value[b"dtype"]).type(value[b"data"])
    return value


def _dtype(text: Any) -> np.dtype[Any]:
    dtype = np.dtype(text.decode() if isinstance(text, bytes) else text)
    if dtype.kind not in KINDS:
        raise ValueError(f"an array of dtype {dtype}")
    return dtype
