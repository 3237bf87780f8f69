"""Snapshots keep their content and notice any harm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worldmodel.snapshot import SnapshotError, pack, unpack

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.uint8, np.int64, np.float16]), hnp.array_shapes(max_dims=3, max_side=3)
)
states = st.dictionaries(st.text(max_size=6), scalars | st.lists(scalars, max_size=3) | arrays, max_size=5)


@given(states)
def test_what_is_packed_comes_back(state: dict[str, object]) -> None:
    for key, value in unpack(pack(state)).items():
        np.testing.assert_array_equal(value, state[key])


@given(st.data())
def test_any_flipped_byte_is_noticed(data: st.DataObject) -> None:
    snapshot = bytearray(pack({"ego": np.arange(20.0), "seed": 3}))
    place = data.draw(st.integers(0, len(snapshot) - 1))
    snapshot[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SnapshotError):
        unpack(bytes(snapshot))


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused(noise: bytes) -> None:
    with pytest.raises(SnapshotError):
        unpack(noise)


def test_objects_are_not_packed() -> None:
    with pytest.raises(TypeError, match="plain data"):
        pack({"x": np.array([object()])})
