"""One session as a state machine without I/O: order, exactly-once retry, staging, lease, real time.

Knows nothing of sockets, workers or pixels; every method that depends on time is given the time. A request *begins* an
operation and gets a `Staged`; only `commit_*` changes what the driver can see, and `abort` puts everything back.

    new --reset--> ready --step--> ready | ended        any --lose--> recovering --recovered--> ready | ended
    busy: an operation is with the worker               any --close--> closed
"""

import hmac

from clients.protocol import ErrorCode, ProtocolError, StepItem, Stepped
from clients.protocol.requests import HoldPolicy, Mode

from .realtime import HeldActions, MediaClock
from .staging import ALLOWED, Phase, SessionRules, Staged, Stored, action_digest


class Session:
    """One running world's protocol state."""

    def __init__(self, name: str, resume_token: str, rules: SessionRules, now_s: float) -> None:
        self.name = name
        self.resume_token = resume_token
        self.phase = Phase.NEW
        self.next_chunk = 0
        self.attached = False
        self.held_chunks = 0  # since the driver's last reply
        self._rules = rules
        self._staged: Staged | None = None
        self._last: Stored | None = None
        self._rolled_back = False
        self._lease_ends_s = now_s + rules.lease_s
        self._clock = MediaClock(rules.chunk_s)
        self._choose("lockstep", "coast")
        self._offer: tuple[StepItem, bytes, float] | None = None

    # Lease ------------------------------------------------------------------------------------------------------

    def attach(self, token: str) -> None:
        """A driver takes the session, also from another socket that still holds it."""
        if self.phase is Phase.CLOSED or not hmac.compare_digest(token.encode(), self.resume_token.encode()):
            # One answer for both, so that names cannot be probed.
            raise ProtocolError(
                ErrorCode.UNKNOWN_SESSION, f"expected an open session and its token, got {self.name!r}"
            )
        self.attached = True

    def detach(self, now_s: float) -> None:
        """The driver's socket is gone; the lease begins."""
        self.attached = False
        self._lease_ends_s = now_s + self._rules.lease_s

    def lease_is_over(self, now_s: float) -> bool:
        """Whether nobody came back in time."""
        return not self.attached and now_s >= self._lease_ends_s

    # Operations -------------------------------------------------------------------------------------------------

    def begin(self, operation: str) -> Staged:
        """Begin anything but a step.

        Raises:
            ProtocolError: BAD_STATE, or WORKER_LOST while recovering.
        """
        self._require(operation)
        return self._stage(Staged(operation, self.phase))

    def begin_step(self, item: StepItem) -> Staged | Stored:
        """Begin a chunk in lockstep, or find the stored reply of the same request.

        Raises:
            ProtocolError: CHUNK_CONFLICT, OUT_OF_ORDER, BAD_ACTION, BAD_STATE, WORKER_LOST.
        """
        digest = action_digest(item)
        if stored := self._stored(item.chunk, digest):
            return stored
        self._require("step")
        self._check_order(item.chunk, self.next_chunk, self.next_chunk)
        self._check_shape(item)
        return self._stage(Staged("step", self.phase, item, (item.chunk, digest)))

    def commit_reset(
        self, staged: Staged, mode: Mode = "lockstep", hold_policy: HoldPolicy = "coast"
    ) -> None:
        """The world is open; chunk 0 is next."""
        self._choose(mode, hold_policy)
        self._move_to(staged, 0, ended=False)

    def commit_restore(
        self,
        staged: Staged,
        next_chunk: int,
        ended: bool,
        mode: Mode = "lockstep",
        hold_policy: HoldPolicy = "coast",
    ) -> None:
        """The world is that of a snapshot."""
        self._choose(mode, hold_policy)
        self._move_to(staged, next_chunk, ended)

    def continue_as(self, original: "Session") -> None:
        """A fresh session becomes a copy of one at a chunk boundary."""
        self._choose(original.mode, original.hold_policy)
        self.phase = original.phase
        self._restart(original.next_chunk)

    def commit_step(self, staged: Staged, reply: Stepped) -> None:
        """The chunk is made: the reply is what a retry gets, and the next chunk is allowed."""
        self._settle(staged, Phase.ENDED if reply.terminated or reply.truncated else Phase.READY)
        self.next_chunk += 1
        self._rolled_back = False
        if staged.request is not None:
            self._last = Stored(*staged.request, reply)
            self.held_chunks = 0

    def commit(self, staged: Staged) -> None:
        """An operation that moves nothing (snapshot, fork, set_tier, map) is done."""
        self._settle(staged, staged.before)

    def abort(self, staged: Staged) -> None:
        """The operation failed: everything is as it was. Harmless after a commit, a loss or a close."""
        if self._staged is staged:
            self._settle(staged, staged.before)

    def close(self) -> None:
        """End the session, whatever it is doing."""
        self.phase, self._staged, self._offer, self._last = Phase.CLOSED, None, None, None

    # Loss of the worker -----------------------------------------------------------------------------------------

    def lose(self, snapshot_chunk: int | None) -> ProtocolError:
        """The worker is gone: recover from a snapshot, or end. Returns what the driver is told."""
        self._staged = self._offer = self._last = None  # what a retry would get is undone too
        self.phase = Phase.CLOSED if snapshot_chunk is None else Phase.RECOVERING
        self._rolled_back = True
        if snapshot_chunk is None:
            return ProtocolError(
                ErrorCode.WORKER_LOST, f"the worker of session {self.name} ended; it is gone", fatal=True
            )
        self.next_chunk = snapshot_chunk
        return self._rolled_back_error()

    def recovered(self, next_chunk: int, ended: bool) -> None:
        """Another worker runs the session again."""
        if self.phase is Phase.RECOVERING:
            self.phase = Phase.ENDED if ended else Phase.READY
            self._restart(next_chunk)

    # Real time --------------------------------------------------------------------------------------------------

    def offer_step(self, item: StepItem, now_s: float) -> Stored | None:
        """Give the action for the next chunk that has not begun; the first one starts the clock.

        Returns the stored reply if this very request was answered before; None when the action is queued.

        Raises:
            ProtocolError: as `begin_step`; OUT_OF_ORDER also when another action is still waiting.
        """
        digest = action_digest(item)
        if stored := self._stored(item.chunk, digest):
            return stored
        if self.phase is not Phase.BUSY:
            self._require("step")
        self._check_order(item.chunk, 0, self.next_chunk + (self.phase is Phase.BUSY))
        self._check_shape(item)
        if self._offer is not None and self._offer[1] != digest:
            raise ProtocolError(ErrorCode.OUT_OF_ORDER, "expected one action in flight, got a second")
        self._offer = self._offer or (item, digest, now_s)
        self._clock.start(now_s)
        return None

    @property
    def due_s(self) -> float | None:
        """When the next chunk may begin; None while the clock stands (lockstep, no action yet, episode over)."""
        return (
            self._clock.due_s if self.mode == "realtime" and self.phase in (Phase.READY, Phase.BUSY) else None
        )

    def begin_due(self, now_s: float) -> Staged | None:
        """Begin the chunk that is due, with the offered action or a held one; None if none is due."""
        if self.phase is not Phase.READY or self.due_s is None or now_s < self.due_s:
            return None
        self._clock.began(now_s)
        if self._offer is None:
            self.held_chunks += 1
            return self._stage(Staged("step", self.phase, self._actions.held(self.next_chunk)))
        (item, digest, offered_s), self._offer = self._offer, None
        self._actions.use(item)
        age_ms = (now_s - offered_s) * 1e3
        running = item.model_copy(update={"chunk": self.next_chunk})
        return self._stage(Staged("step", self.phase, running, (item.chunk, digest), age_ms))

    # Private ----------------------------------------------------------------------------------------------------

    def _stored(self, chunk: int, digest: bytes) -> Stored | None:
        last = self._last
        if last is None or chunk != last.chunk:
            return None
        if digest == last.digest:
            return last
        if self.mode == "realtime":
            return None
        raise ProtocolError(
            ErrorCode.CHUNK_CONFLICT,
            f"expected chunk {self.next_chunk}, got chunk {chunk} again with other actions",
        )

    def _require(self, operation: str) -> None:
        if self.phase in ALLOWED[operation]:
            return
        if self.phase is Phase.RECOVERING:
            raise self._rolled_back_error()
        wanted = " or ".join(sorted(ALLOWED[operation]))
        raise ProtocolError(
            ErrorCode.BAD_STATE, f"expected a session that is {wanted} for {operation}, got {self.phase}"
        )

    def _check_order(self, chunk: int, first: int, last: int) -> None:
        if first <= chunk <= last:
            return
        if self._rolled_back:
            raise self._rolled_back_error()
        raise ProtocolError(
            ErrorCode.OUT_OF_ORDER,
            f"expected chunk {last}, got {chunk}",
            details={"next_chunk": self.next_chunk},
        )

    def _check_shape(self, item: StepItem) -> None:
        width = self._rules.action_widths.get(item.space)
        if width is None:
            names = ", ".join(self._rules.action_widths)
            raise ProtocolError(
                ErrorCode.BAD_ACTION, f"expected an action space of {names}, got {item.space}"
            )
        expected = (self._rules.frames_per_chunk, width)
        if item.actions.shape != expected:
            raise ProtocolError(
                ErrorCode.BAD_ACTION, f"expected {item.space} of shape {expected}, got {item.actions.shape}"
            )

    def _rolled_back_error(self) -> ProtocolError:
        return ProtocolError(
            ErrorCode.WORKER_LOST,
            f"the worker ended; expected chunk {self.next_chunk} next, from the last snapshot",
            details={"next_chunk": self.next_chunk},
        )

    def _stage(self, staged: Staged) -> Staged:
        self._staged, self.phase = staged, Phase.BUSY
        return staged

    def _settle(self, staged: Staged, phase: Phase) -> None:
        if self.phase is Phase.CLOSED:
            raise ProtocolError(
                ErrorCode.UNKNOWN_SESSION, f"session {self.name} ended during {staged.operation}"
            )
        if self._staged is not staged:
            raise RuntimeError(f"expected the operation in flight, got a stale {staged.operation}")
        self._staged, self.phase = None, phase

    def _move_to(self, staged: Staged, next_chunk: int, ended: bool) -> None:
        self._settle(staged, Phase.ENDED if ended else Phase.READY)
        self._rolled_back = False
        self._restart(next_chunk)

    def _choose(self, mode: Mode, hold_policy: HoldPolicy) -> None:
        self.mode, self.hold_policy = mode, hold_policy
        self._actions = HeldActions(hold_policy, self._rules.chunk_s / self._rules.frames_per_chunk)

    def _restart(self, next_chunk: int) -> None:
        self.next_chunk, self.held_chunks = next_chunk, 0
        self._last = self._offer = None
        self._clock.stop()
