"""msgpack with arrays: `{__ndarray__: true, dtype, shape, data}`. Nothing that executes, nothing unbounded.

An array is checked (dtype, number of axes, size against the bytes present) before NumPy sees it, and becomes a read-only
view of the received bytes: a small message can never make a large allocation.
"""

import math
from typing import Any

import msgpack
import numpy as np
from pydantic import BaseModel

# Little-endian numbers and booleans only: no objects, no strings, no complex numbers, no records.
DTYPES = frozenset(
    ["|b1", "|i1", "|u1"]
    + [f"<{kind}{size}" for kind, sizes in (("i", "248"), ("u", "248"), ("f", "248")) for size in sizes]
)
MAX_NDIM = 8
MAX_MESSAGE_BYTES = 1 << 20  # inbound at the server; replies with many cameras are larger


class CodecError(ValueError):
    """Bytes that are not a message of this protocol."""


def pack(message: dict[str, Any] | BaseModel) -> bytes:
    """One message as bytes. NumPy arrays and scalars, and messages, are allowed anywhere as values."""
    packed: bytes = msgpack.packb(message, default=_encode, use_bin_type=True)
    return packed


def unpack(data: bytes | memoryview, max_bytes: int = MAX_MESSAGE_BYTES) -> dict[str, Any]:
    """The map in one binary message.

    Raises:
        CodecError: anything else, whatever the bytes are.
    """
    if len(data) > max_bytes:
        raise CodecError(f"expected at most {max_bytes} bytes, got {len(data)}")
    try:
        message = msgpack.unpackb(data, object_hook=_decode, ext_hook=_refuse_extension, strict_map_key=True)
    except CodecError:
        raise
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        msgpack.exceptions.UnpackException,
    ) as error:
        raise CodecError(f"expected one msgpack map, got {_reason(error)}") from None
    if not isinstance(message, dict):
        raise CodecError(f"expected a map, got {type(message).__name__}")
    return message


def _encode(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return vars(value)
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        dtype = array.dtype.newbyteorder("<").str
        if dtype not in DTYPES:
            raise TypeError(f"expected an array of {sorted(DTYPES)}, got dtype {array.dtype}")
        little = array.astype(dtype, copy=False)
        return {"__ndarray__": True, "dtype": dtype, "shape": list(value.shape), "data": little.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a msgpack value or a NumPy array, got {type(value).__name__}")


def _decode(value: dict[str, Any]) -> Any:
    if "__ndarray__" not in value:
        return value
    dtype, shape, data = (value.get(key) for key in ("dtype", "shape", "data"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CodecError(f"expected a dtype of {sorted(DTYPES)}, got {_short(dtype)}")
    if not isinstance(shape, list) or len(shape) > MAX_NDIM or not all(_is_size(size) for size in shape):
        raise CodecError(f"expected a shape of at most {MAX_NDIM} sizes, got {_short(shape)}")
    expected = math.prod(shape) * int(dtype[2:])
    if not isinstance(data, bytes) or len(data) != expected:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise CodecError(f"expected {expected} bytes for {dtype} {shape}, got {got}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size < 1 << 32


def _refuse_extension(code: int, _: bytes) -> Any:
    raise CodecError(f"expected no extension types, got type {code}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} ({_short(str(error))})"
