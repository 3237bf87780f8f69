"""KV cycles: which chunk commits, how old the last commit is, which noise a chunk starts from.

A cycle is `length` chunks. Its first chunk is exact and written to the rolling KV; the others only read, start from
the same noise, and leave nothing behind that a later chunk sees. Length 1 commits every chunk.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CyclePlace:
    """What a chunk is in its cycle."""

    ahead: int  # latent frames since the last commit, 1 to the length of a cycle
    commits: bool
    noise: int  # chunks with the same number start from the same noise


def place_of(chunk: int, length: int) -> CyclePlace:
    """The place of chunk 0, 1, ...; the opening frame counts as the commit before chunk 0."""
    ahead = 1 if chunk == 0 else (chunk - 1) % length + 1
    return CyclePlace(ahead, chunk % length == 0, chunk // length)
