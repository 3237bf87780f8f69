"""Which step is allowed, which repeated, and which refused, in lockstep and in real time."""

import time
from typing import Any

import numpy as np
import pytest

from clients.protocol import ErrorReply


def test_a_new_session_wants_a_reset_first(socket: Any) -> None:
    for request in ("snapshot", "fork"):
        assert socket.ask(request).code == "BAD_STATE"
    assert socket.ask("set_tier", tier="exact").code == "BAD_STATE"
    assert socket.step(0).code == "BAD_STATE"


def test_a_repeated_step_gets_the_same_bytes_and_runs_once(world: Any) -> None:
    once = world.step(0)
    again = world.step(0)
    assert again.frames == once.frames
    np.testing.assert_array_equal(again.ego, once.ego)
    assert world.step(1).chunk == 1


def test_order_is_kept(world: Any) -> None:
    world.step(0)
    assert world.step(0, accel=0.25).code == "CHUNK_CONFLICT"
    ahead = world.step(5)
    assert (ahead.code, ahead.fatal, ahead.details["next_chunk"]) == ("OUT_OF_ORDER", False, 1)
    assert world.step(1).chunk == 1


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.zeros((3, 2), np.float32), "BAD_ACTION"),
        (np.zeros((4, 5), np.float32), "BAD_ACTION"),
        (np.full((4, 2), np.nan, np.float32), "BAD_ACTION"),
        (np.full((4, 2), 1e6, np.float32), "BAD_ACTION"),
        ("left", "BAD_ACTION"),
        (None, "BAD_ACTION"),
    ],
    ids=["rows", "columns", "nan", "bounds", "text", "none"],
)
def test_a_bad_action_changes_nothing(world: Any, values: Any, code: str) -> None:
    refused = world.ask("step", chunk=0, actions=values)
    assert isinstance(refused, ErrorReply)
    assert (refused.code, refused.fatal) == (code, False)
    assert "expected" in refused.message.lower() or "got" in refused.message
    assert world.step(0).chunk == 0


def test_real_time_counts_what_the_driver_missed(socket: Any) -> None:
    started = socket.reset(mode="realtime", hold_policy="coast")
    assert started.mode == "realtime"
    chunk_s = socket.welcome.frames_per_chunk * socket.welcome.dt_us / 1e6
    first = socket.step(0)
    time.sleep(2.5 * chunk_s)
    late = socket.step(1)
    assert first.chunk == 0
    assert late.chunk >= 2
    assert late.held_chunks == late.chunk - 1
    began_s = time.monotonic()
    for chunk in range(late.chunk + 1, late.chunk + 4):
        assert socket.step(chunk).chunk >= chunk
    assert time.monotonic() - began_s > 2 * chunk_s
