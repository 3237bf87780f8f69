import asyncio

import numpy as np
import pytest

from clients.protocol import Frames, Notice, ProtocolError, parse_reply
from server.viewers import Audience, choose


def frames(chunk: int) -> Frames:
    return Frames.model_construct(
        session="s",
        chunk=chunk,
        encoding="jpeg",
        frames={"a": [b"1"], "b": [b"2"]},
        ego=np.zeros((1, 7)),
        agents=np.zeros((0, 8), np.float32),
        agent_kinds=[],
        metrics={},
        cache=None,
        timing={},
        outcome="running",
    )


async def test_a_slow_viewer_gets_the_newest_chunk_only() -> None:
    audience = Audience(limit=2)
    viewer = audience.join()
    for chunk in range(100):
        audience.publish(frames(chunk))
    assert parse_reply(await viewer.take()).chunk == 99  # type: ignore[union-attr]
    assert audience.leave(viewer) == 99
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(viewer.take(), 0.01)


async def test_a_newcomer_sees_the_last_chunk_at_once() -> None:
    viewer = Audience(limit=2).join(frames(7))
    assert parse_reply(await asyncio.wait_for(viewer.take(), 10)).chunk == 7  # type: ignore[union-attr]


async def test_viewers_of_the_same_cameras_share_the_same_bytes() -> None:
    audience = Audience(limit=3)
    viewers = [audience.join() for _ in range(3)]
    viewers[2].cameras = ("b",)
    audience.publish(frames(0))
    first, second, third = [await viewer.take() for viewer in viewers]
    assert first is second
    assert list(parse_reply(third).frames) == ["b"]  # type: ignore[union-attr]


async def test_notices_reach_everybody_and_are_not_kept_for_newcomers() -> None:
    audience = Audience(limit=3)
    viewer = audience.join()
    audience.publish(Notice(code="CLOSED"))
    assert parse_reply(await viewer.take()).code == "CLOSED"  # type: ignore[union-attr]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(audience.join().take(), 0.01)


def test_a_full_house_is_refused() -> None:
    audience = Audience(limit=1)
    audience.join()
    with pytest.raises(ProtocolError, match="TOO_MANY: expected at most 1"):
        audience.join()


def test_only_cameras_of_the_rig_can_be_chosen() -> None:
    assert choose(["b"], [{"name": "a"}, {"name": "b"}]) == ("b",)
    assert choose(None, []) is None
    with pytest.raises(ProtocolError, match="expected cameras of a, got 'x'"):
        choose(["x"], [{"name": "a"}])
