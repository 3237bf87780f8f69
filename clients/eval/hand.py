"""One policy object and the thread in which it thinks, so that a policy that never answers can be left behind."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

import numpy as np

from ..observation import Observation
from ..policies import (
    EpisodeInfo,
    Policy,
    PolicyError,
    PolicySpec,
    PolicyUnavailableError,
    checked_actions,
    space_of,
)
from ..protocol.requests import ActionSpaceName

T = TypeVar("T")


class PolicyHand:
    """Makes, asks and checks one policy.

    Args:
        spec: which.
        timeout_s: longest wait for an answer.
        clip: move actions out of bounds to them instead of refusing them.

    Raises:
        PolicyError: whatever goes wrong in a policy; PolicyUnavailableError stays what it is.
        PolicySpecError: it cannot be made.
    """

    def __init__(self, spec: PolicySpec, timeout_s: float, clip: bool = False) -> None:
        self.spec, self.timeout_s, self.clip = spec, timeout_s, clip
        self.info: EpisodeInfo | None = None
        self._policy: Policy | None = None
        self._thread = _Thread()

    def reset(self, info: EpisodeInfo) -> None:
        """Begin an episode; makes the object the first time, and again after it was left behind."""
        if self._policy is None:
            self._policy = self.spec.make()
        self.info = info
        self._ask(self._policy.reset, info)

    def act(self, seen: Observation) -> tuple[ActionSpaceName, np.ndarray]:
        """The action space and the actions, float32 [F, A]."""
        assert self._policy is not None
        assert self.info is not None
        values = self._ask(self._policy.act, seen)
        space = space_of(self._policy)
        return space, checked_actions(values, self.info, space, self.clip)

    def close(self) -> None:
        """Let the object go. Harmless the second time."""
        close, self._policy = getattr(self._policy, "close", None), None
        if close is not None:
            close()
        self._thread.leave()

    def _ask(self, verb: Callable[..., T], *arguments: Any) -> T:
        answer = self._thread.ask(verb, *arguments)
        try:
            return answer.result(self.timeout_s)
        except (PolicyError, PolicyUnavailableError):
            raise
        except FutureTimeoutError as error:
            if answer.done():
                raise PolicyError(f"{self.spec.name}: TimeoutError: {error}") from error
            self._policy = None
            self._thread.leave()
            self._thread = _Thread()
            raise PolicyError(f"{self.spec.name}: expected an answer within {self.timeout_s:g} s") from None
        except Exception as error:  # whatever a policy does wrong is its own fault
            raise PolicyError(f"{self.spec.name}: {type(error).__name__}: {error}") from error


class _Thread:
    """Does one thing after the other. Always the same thread: libraries keep pools and modes per thread."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="policy", daemon=True).start()

    def ask(self, verb: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Its answer, once there is one."""
        answer: Future[T] = Future()
        self._work.put((answer, verb, arguments))
        return answer

    def leave(self) -> None:
        """End it, when it is done with what it does."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            answer, verb, arguments = work
            try:
                answer.set_result(verb(*arguments))
            except BaseException as error:
                answer.set_exception(error)
