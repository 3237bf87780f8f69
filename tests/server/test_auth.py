import hashlib

import pytest

from clients.protocol import ErrorCode, ProtocolError
from server.auth import ANYBODY, Gate, Principal, new_token
from server.config import TokenConfig


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def gate(*tokens: str, clock: Clock | None = None, sockets: int = 2) -> Gate:
    configured = [
        TokenConfig(name=token, sha256=hashlib.sha256(token.encode()).hexdigest(), scopes=["drive"])
        for token in tokens
    ]
    return Gate(configured, ["https://good.example"], sockets, ticket_s=10.0, clock=clock or Clock())


def test_without_tokens_everybody_may_do_everything() -> None:
    assert gate().authenticate(None) is ANYBODY


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer b", "Basic a", "bearer  ", "a"])
def test_only_a_known_bearer_token_is_let_in(header: str | None) -> None:
    door = gate("a")
    assert door.authenticate("bearer a").name == "a"
    with pytest.raises(ProtocolError) as raised:
        door.authenticate(header)
    assert raised.value.code is ErrorCode.UNAUTHENTICATED
    assert header in (None, "", "a") or header not in raised.value.message


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://good.example", True),
        ("http://here:8600", True),
        ("http://here:8601", False),
        ("https://good.example.evil", False),
        ("null", False),
        ("", False),
    ],
)
def test_the_origin_must_be_ours_or_on_the_list(origin: str | None, allowed: bool) -> None:
    if allowed:
        gate().check_origin(origin, "here:8600")
    else:
        with pytest.raises(ProtocolError, match="FORBIDDEN"):
            gate().check_origin(origin, "here:8600")


def test_an_address_has_its_limit_of_sockets() -> None:
    door = gate(sockets=2)
    door.enter("x")
    door.enter("x")
    with pytest.raises(ProtocolError, match="TOO_MANY"):
        door.enter("x")
    door.enter("y")
    door.leave("x")
    door.enter("x")


def test_a_ticket_is_good_once_for_what_it_names_and_not_for_long() -> None:
    clock = Clock()
    door = gate("a", clock=clock)
    bearer = Principal("a", frozenset({"view"}))
    assert door.redeem_ticket(door.mint_ticket(bearer, "view", "s"), "view", "s").scopes == {"view"}
    for ticket, scope, session in (
        ("guess", "view", "s"),
        (door.mint_ticket(bearer, "view", "s"), "view", "other"),
        (door.mint_ticket(bearer, "view", "s"), "drive", None),
    ):
        with pytest.raises(ProtocolError, match="UNAUTHENTICATED"):
            door.redeem_ticket(ticket, scope, session)
    late = door.mint_ticket(bearer, "view", "s")
    clock.now_s = 11.0
    with pytest.raises(ProtocolError, match="UNAUTHENTICATED"):
        door.redeem_ticket(late, "view", "s")
    with pytest.raises(ProtocolError, match="FORBIDDEN"):
        door.mint_ticket(bearer, "drive")


def test_new_tokens_differ_and_are_kept_as_digests() -> None:
    (token, digest), (other, _) = new_token(), new_token()
    assert token != other
    assert hashlib.sha256(token.encode()).hexdigest() == digest
