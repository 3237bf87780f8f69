"""Seeded generators whose state is plain data. Each part of a scene draws from its own stream."""

import zlib
from typing import Any

import numpy as np


def make_generator(seed: int, stream: str) -> np.random.Generator:
    """A generator for one purpose of one seed; streams do not disturb each other."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(stream.encode())]))


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state as numbers and one array."""
    state = generator.bit_generator.state
    return {
        "words": np.array(state["state"]["state"], np.uint64),
        "half": int(state["uinteger"]),
        "has_half": int(state["has_uint32"]),
    }


def load_generator(state: dict[str, Any]) -> np.random.Generator:
    """A generator that goes on from a state."""
    bits = np.random.SFC64()
    bits.state = {
        "bit_generator": "SFC64",
        "state": {"state": np.array(state["words"], np.uint64)},
        "has_uint32": state["has_half"],
        "uinteger": state["half"],
    }
    return np.random.Generator(bits)
