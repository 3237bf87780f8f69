"""Who may do what: bearer tokens with scopes, one-use viewer tickets, the Origin allow-list, sockets per address.

Tokens are compared by digest in constant time and never logged. Without any configured token everybody may do everything, which
the configuration allows on loopback addresses only.
"""

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from clients.protocol import ErrorCode, ProtocolError

from .config import SCOPES, TokenConfig

MAX_TICKETS = 10_000


@dataclass(frozen=True)
class Principal:
    """Somebody who was let in."""

    name: str
    scopes: frozenset[str]
    max_sessions: int | None = None

    def demand(self, scope: str) -> None:
        """Raise FORBIDDEN unless the scope was granted; `admin` includes all."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise ProtocolError(
                ErrorCode.FORBIDDEN, f"expected scope {scope}, got {', '.join(sorted(self.scopes))}"
            )


ANYBODY = Principal("anybody", frozenset(SCOPES))


@dataclass(frozen=True)
class Ticket:
    """What a one-use ticket allows."""

    bearer: Principal
    scope: str
    session: str | None
    expires_s: float


class Gate:
    """All checks at the door."""

    def __init__(
        self, tokens: Iterable[TokenConfig], origins: Iterable[str], sockets_per_address: int, ticket_s: float, clock: Callable[[], float]
    ) -> None:  # fmt: skip
        self._tokens = list(tokens)
        self._origins = frozenset(origins)
        self._sockets_per_address = sockets_per_address
        self._ticket_s, self._clock = ticket_s, clock
        self._sockets: Counter[str] = Counter()
        self._tickets: dict[str, Ticket] = {}  # by digest

    @property
    def open(self) -> bool:
        """Whether nobody needs a token."""
        return not self._tokens

    def authenticate(self, authorization: str | None) -> Principal:
        """The bearer of an `Authorization` header.

        Raises:
            ProtocolError: UNAUTHENTICATED.
        """
        if self.open:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = None
        for known in self._tokens:  # all of them, so that the time says nothing
            if hmac.compare_digest(known.sha256, digest):
                found = known
        if scheme.lower() != "bearer" or found is None:
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, "expected a valid bearer token, got none", fatal=True
            )
        return Principal(found.name, frozenset(found.scopes), found.max_sessions)

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse pages of other sites. No Origin is no browser; the server's own pages are welcome."""
        if origin is None or origin in self._origins:
            return
        if host and urlsplit(origin).netloc.lower() == host.lower():
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN, f"expected an allowed Origin, got {origin[:100]!r}", fatal=True
        )

    def enter(self, address: str) -> None:
        """Count a socket. Raises TOO_MANY."""
        if self._sockets[address] >= self._sockets_per_address:
            limit = self._sockets_per_address
            raise ProtocolError(
                ErrorCode.TOO_MANY, f"expected at most {limit} sockets of one address", fatal=True
            )
        self._sockets[address] += 1

    def leave(self, address: str) -> None:
        """The socket is closed."""
        self._sockets[address] -= 1
        if self._sockets[address] <= 0:
            del self._sockets[address]

    def mint_ticket(self, bearer: Principal, scope: str, session: str | None = None) -> str:
        """A ticket for one socket: `view` one session, or `drive`. Raises TOO_MANY, FORBIDDEN."""
        bearer.demand(scope)
        now_s = self._clock()
        self._tickets = {key: kept for key, kept in self._tickets.items() if kept.expires_s > now_s}
        if len(self._tickets) >= MAX_TICKETS:
            raise ProtocolError(ErrorCode.TOO_MANY, f"expected at most {MAX_TICKETS} unused tickets")
        ticket = secrets.token_urlsafe(24)
        self._tickets[_digest(ticket)] = Ticket(bearer, scope, session, now_s + self._ticket_s)
        return ticket

    def redeem_ticket(self, ticket: str, scope: str, session: str | None = None) -> Principal:
        """Let the ticket's holder in, once. Raises UNAUTHENTICATED."""
        kept = self._tickets.pop(_digest(ticket), None)
        if kept is None or (kept.scope, kept.session) != (scope, session) or kept.expires_s < self._clock():
            raise ProtocolError(
                ErrorCode.UNAUTHENTICATED, "expected an unused ticket for this, got none", fatal=True
            )
        return Principal(kept.bearer.name, frozenset({scope}), kept.bearer.max_sessions)


def new_token() -> tuple[str, str]:
    """A fresh token and the SHA-256 that the configuration keeps."""
    token = "rl_" + secrets.token_urlsafe(32)
    return token, _digest(token)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
