"""Tiers of the cache."""

from typing import Any

from clients.protocol import TierSet


def test_every_tier_of_the_server_can_be_set_between_two_chunks(world: Any, info: dict[str, Any]) -> None:
    tiers = world.welcome.tiers
    assert tiers == info["tiers"]
    assert "exact" in tiers
    for k, tier in enumerate(tiers):
        told = world.ask("set_tier", tier=tier)
        assert isinstance(told, TierSet), told
        assert (told.tier, told.next_chunk) == (tier, k)
        stepped = world.step(k)
        assert stepped.chunk == k
        assert stepped.cache is None or stepped.cache.tier == tier


def test_a_tier_that_there_is_not_is_refused_with_those_that_there_are(world: Any) -> None:
    world.step(0)
    refused = world.ask("set_tier", tier="warp")
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert "exact" in refused.message
    assert world.step(1).chunk == 1


def test_a_tier_may_change_while_the_last_step_can_still_be_repeated(world: Any) -> None:
    once = world.step(0)
    world.ask("set_tier", tier="exact")
    assert world.step(0).frames == once.frames
