import contextlib
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clients.protocol import CodecError, pack, unpack
from clients.protocol.codec import DTYPES

ARRAYS = hnp.arrays(
    dtype=st.sampled_from(sorted(DTYPES)).map(np.dtype),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0),
)


def forged(**fields: object) -> bytes:
    array = {"__ndarray__": True, "dtype": "<f4", "shape": [2], "data": b"\0" * 8} | fields
    return msgpack.packb({"actions": array})


@given(ARRAYS)
def test_an_array_survives_the_wire_unchanged(array: np.ndarray) -> None:
    back = unpack(pack({"a": array}))["a"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_big_endian_and_strided_arrays_arrive_as_little_endian_values() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    back = unpack(pack({"a": array}))["a"]
    assert back.dtype.str == "<f4"
    np.testing.assert_array_equal(back, array)


def test_a_received_array_is_a_view_that_nobody_can_write() -> None:
    back = unpack(pack({"a": np.zeros(3)}))["a"]
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 1


def test_numpy_scalars_become_plain_numbers() -> None:
    assert unpack(pack({"a": np.float32(0.5), "b": np.int64(3), "c": np.True_})) == {
        "a": 0.5,
        "b": 3,
        "c": True,
    }


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["x"]), np.array([1j]), np.zeros(2, "M8[s]"), {1, 2}]
)
def test_what_is_not_a_number_is_not_sent(value: object) -> None:
    with pytest.raises(TypeError, match="expected"):
        pack({"a": value})


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "|O8"},
        {"dtype": "<c8"},
        {"dtype": "|V4"},
        {"dtype": "<M8[s]"},
        {"dtype": ">f4"},
        {"dtype": 7},
        {"dtype": ["<f4"]},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [True, 2]},
        {"shape": [2.0]},
        {"shape": "2"},
        {"shape": [1] * 9 + [2]},
        {"shape": [1 << 40, 0]},
        {"data": "text"},
        {"data": b""},
        {"data": None},
    ],
    ids=str,
)
def test_a_forged_array_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(CodecError, match="expected"):
        unpack(forged(**fields))


@pytest.mark.parametrize(
    "data",
    [
        forged(shape=[1 << 31, 1 << 31]),
        b"\xdd\xff\xff\xff\xff",  # an array header that claims 4 G elements
        b"\xdf\xff\xff\xff\xff",  # a map header that claims 4 G elements
        b"\xc6\xff\xff\xff\xff",  # a binary header that claims 4 GiB
        b"\x91" * 100_000,  # nested without end
    ],
    ids=["shape", "array", "map", "binary", "nesting"],
)
def test_a_small_message_never_makes_a_large_allocation(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(CodecError):
        unpack(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x80",
        b"\x01",
        b"\xc1",
        b"\x81\xa1",
        b"\x81\x01\x02",
        b"\x81\xa1a\xa1\xff",
        msgpack.packb(msgpack.ExtType(5, b"")),
    ],
)
def test_bytes_that_are_not_one_map_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


def test_a_message_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(CodecError, match="at most 10 bytes"):
        unpack(b"\x80" + b"\0" * 10, max_bytes=10)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_map_or_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        assert isinstance(unpack(data), dict)
