"""Runs a suite: N slots against one server, each with a client and policies of its own, and one thread that scores and writes.

Failures of the infrastructure (connections, the server, a remote policy that cannot be reached) are tried again. Failures of the policy are final: it
would fail again. A refusal of what is asked (unknown scenario, camera, token) ends the run, as does a server that is gone.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..client import Client, connect
from ..errors import ConnectionLostError, ReplyTimeoutError, RoadloopError
from ..policies import PolicySpec, PolicyUnavailableError
from ..protocol import ErrorCode, ProtocolError
from .drive import Driven, Driver, Limits, RolloutTimeoutError, StoppedError
from .results import Result, RunFolder
from .suite import RolloutPlan, Suite

REFUSALS = frozenset(
    {
        ErrorCode.BAD_REQUEST,
        ErrorCode.BAD_MESSAGE,
        ErrorCode.UNSUPPORTED,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
    }
)
FULL = frozenset({ErrorCode.CAPACITY, ErrorCode.TOO_MANY})
INFRASTRUCTURE = (
    ProtocolError,
    ConnectionLostError,
    ReplyTimeoutError,
    RolloutTimeoutError,
    PolicyUnavailableError,
)


class RunError(RoadloopError):
    """The run ended early; what is finished is kept. `refused`: what was asked is wrong, going on would not help."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class RunConfig:
    """How a suite is run. Nothing here changes a score, but `clip`."""

    url: str
    token: str | None = None
    slots: int = 4
    retries: int = 2  # after failures of the infrastructure
    retry_pause_s: float = 1.0  # before the first one; doubles
    reply_timeout_s: float = 120.0
    limits: Limits = field(default_factory=Limits)
    clip: bool = False
    keep_pictures: bool = False


@dataclass(frozen=True)
class Finished:
    """What a slot hands to the writing thread: one branch of a world."""

    plan: RolloutPlan
    key: str
    driven: Driven
    attempts: int
    wall_s: float


@dataclass
class Busy:
    """How well the slots were used until there was no work left to take."""

    driving_s: float = 0.0
    available_s: float = 0.0

    @property
    def share(self) -> float:
        """Of the slots' time, spent in rollouts; 1 where nothing was driven."""
        return self.driving_s / self.available_s if self.available_s else 1.0


class Runner:
    """Drives the plans of a suite that are not finished.

    Args:
        suite: what to drive.
        policy: who drives.
        folder: where results go.
        config: how.
        finish: makes the result of a rollout (scores, trace, video); runs in the writing thread.
        on_result: told of every line after it is on disk.
    """

    def __init__(
        self,
        suite: Suite,
        policy: PolicySpec,
        folder: RunFolder,
        config: RunConfig,
        finish: Callable[[Finished], Result],
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self.suite, self.policy, self.folder, self.config = suite, policy, folder, config
        self.busy = Busy()
        self._finish, self._on_result = finish, on_result
        self._plans: queue.SimpleQueue[tuple[RolloutPlan, dict[str, str]]] = queue.SimpleQueue()
        self._finished: queue.Queue[Finished | None] = queue.Queue(maxsize=2 * config.slots)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._alone = False  # only one slot is driving
        self._error: BaseException | None = None

    def run(self, finished: list[Result]) -> None:
        """Drive everything but what is finished.

        Raises:
            RunError: the server refuses what is asked, is full, or is gone.
            PolicySpecError: the policy cannot be made.
        """
        done = {result.key for result in finished if result.final}
        for plan in self.suite.rollouts():
            if wanted := {branch: key for branch, key in plan.keys.items() if key not in done}:
                self._plans.put((plan, wanted))
        writer = threading.Thread(target=self._guarded, args=(self._write,), name="writer")
        writer.start()
        try:
            self._drive_all(self.config.slots)
            while self._plans.qsize() and not self._stop.is_set():
                self._drive_all(1)  # what a slot that found no room put back after all others were done
        finally:
            self._finished.put(None)
            writer.join()
        if self._error is not None:
            raise self._error

    def _drive_all(self, slots: int) -> None:
        """Drive until no slot finds any more to do."""
        count = min(slots, self._plans.qsize())
        self._alone = count == 1
        threads = [
            threading.Thread(target=self._guarded, args=(self._slot,), name=f"slot-{k}") for k in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # an interrupt: slots end with their chunk, what is finished is written
            self._stop.set()
            for thread in threads:
                thread.join()
            raise

    # A slot -----------------------------------------------------------------------------------------------------

    def _slot(self) -> None:
        config = self.config
        driver = Driver(
            self.suite, self.policy, config.limits, config.clip, config.keep_pictures, self._stop.is_set
        )
        began_s = ended_s = time.monotonic()
        driving_s, client = 0.0, None
        try:
            while (taken := self._take()) is not None and (client or (client := self._join(*taken))):
                client, wall_s = self._drive(driver, client, *taken)
                ended_s = time.monotonic()
                driving_s += wall_s
        finally:
            with self._lock:
                self.busy.driving_s += driving_s
                self.busy.available_s += ended_s - began_s
            driver.close()
            if client is not None:
                client.close()

    def _take(self) -> tuple[RolloutPlan, dict[str, str]] | None:
        """The next world; None when there is none, or the run was stopped."""
        try:
            return None if self._stop.is_set() else self._plans.get_nowait()
        except queue.Empty:
            return None

    def _join(self, plan: RolloutPlan, wanted: dict[str, str]) -> Client | None:
        """A client. None where the server has no room for this slot: then others do the work, or one that comes later."""
        try:
            return self._connect()
        except ProtocolError as error:
            _raise_if_refused(error)
            if error.code not in FULL or self._alone:
                raise RunError(f"the server takes no session: {error}") from None
            self._plans.put((plan, wanted))
            return None
        except (ConnectionLostError, ReplyTimeoutError) as error:
            raise RunError(str(error)) from None

    def _drive(
        self, driver: Driver, client: Client | None, plan: RolloutPlan, wanted: dict[str, str]
    ) -> tuple[Client | None, float]:
        """Drive one world, again after failures of the infrastructure. Returns the client, if it is still good, and the time."""
        began_s, attempt = time.monotonic(), 1
        while True:
            try:
                client = client or self._connect()
                driven = driver.drive(client, plan, wanted)
                break
            except StoppedError:
                return client, time.monotonic() - began_s
            except INFRASTRUCTURE as failure:
                _raise_if_refused(failure)
                if client is not None:
                    client.close()
                driver.close()
                client, error = None, failure
            if attempt > self.config.retries:
                if isinstance(error, ConnectionLostError) and not isinstance(error, PolicyUnavailableError):
                    self._must_be_there()
                driven = [Driven(branch, error=error) for branch in wanted]
                break
            self._stop.wait(self.config.retry_pause_s * 2 ** (attempt - 1))
            attempt += 1
        wall_s = time.monotonic() - began_s
        for each in driven:
            if each.branch in wanted:
                self._finished.put(Finished(plan, wanted[each.branch], each, attempt, wall_s))
        return client, wall_s

    def _connect(self, sessions: int = 1) -> Client:
        config = self.config
        return connect(config.url, token=config.token, sessions=sessions, timeout_s=config.reply_timeout_s)

    def _must_be_there(self) -> None:
        """Without a server every rollout would fail, one after the other. Raises RunError."""
        try:
            self._connect(sessions=0).close()
        except ConnectionLostError:
            raise RunError(f"the server at {self.config.url} is gone; go on with --resume") from None

    # The writer -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while (item := self._finished.get()) is not None:
            result = self._finish(item)
            self.folder.append(result)
            self._on_result(result)

    def _guarded(self, work: Callable[[], None]) -> None:
        """The first error of any thread ends the run."""
        try:
            work()
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
            if work == self._write:  # slots must not wait for a writer that is gone
                while self._finished.get() is not None:
                    pass


def _raise_if_refused(failure: Exception) -> None:
    if isinstance(failure, ProtocolError) and failure.code in REFUSALS:
        raise RunError(f"the server refuses: {failure}", refused=True) from None
