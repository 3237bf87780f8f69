"""A driver that does everything that can be done, in any order, against a model of what must come of it.

ROADLOOP_FUZZ_SOCKET=500 runs that many conversations instead of a few.
"""

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clients.handshake import open_socket
from clients.protocol import (
    Closed,
    ErrorReply,
    Forked,
    Notice,
    Restored,
    SnapshotTaken,
    Started,
    Stepped,
    SteppedMany,
    TierSet,
    pack,
    parse_reply,
)

CONVERSATIONS = int(os.environ.get("ROADLOOP_FUZZ_SOCKET", "12"))
GOLDEN = [
    path.read_bytes() for path in sorted((Path(__file__).parents[1] / "clients" / "golden").glob("request_*"))
]
ENDS_AFTER = {"zero": 3600, "zero-short": 3}
MOST_SESSIONS = 5

History = tuple[Any, ...]  # scenario, seed, then every action: all that a world may depend on


@dataclass(frozen=True)
class World:
    """What the model knows of a session; `history` is None before the first reset."""

    history: History | None = None
    last: tuple[int, float] | None = None  # chunk and action that a retry may repeat

    @property
    def next_chunk(self) -> int:
        return 0 if self.history is None else len(self.history) - 2

    @property
    def ended(self) -> bool:
        return self.history is not None and self.next_chunk >= ENDS_AFTER[self.history[0]]

    @property
    def ready(self) -> bool:
        return self.history is not None and not self.ended


class DriverMachine(RuleBasedStateMachine):
    """One socket and the sessions that it drives."""

    url: ClassVar[str]
    seen: ClassVar[dict[History, bytes]] = {}  # what each history looks like, over all conversations

    @initialize()
    def say_hello(self) -> None:
        self.ids = itertools.count(1)
        self.snapshots: dict[str, World] = {}
        self.tokens: dict[str, str] = {}
        self.connect([])

    def connect(self, resume: list[dict[str, str]]) -> None:
        self.wire, self.closing = open_socket(self.url, "/v1/drive", {})
        welcome = self.ask("hello", sessions=1, resume=resume)
        for info in welcome.sessions:
            self.tokens[info.session] = info.resume_token
        if not resume:
            self.worlds = {info.session: World() for info in welcome.sessions}
        assert {i.session: i.next_chunk for i in welcome.sessions} == {
            name: world.next_chunk for name, world in self.worlds.items()
        }

    def ask(self, type: str, **fields: Any) -> Any:
        number = next(self.ids)
        self.wire.send(pack({"type": type, "id": number, **fields}))
        reply = self.reply()
        assert reply.id == number
        return reply

    def reply(self) -> Any:
        while True:
            data = self.wire.recv(timeout=60)
            assert isinstance(data, bytes)
            reply = parse_reply(data)
            if not isinstance(reply, Notice):
                return reply

    def name(self, pick: int) -> str:
        return sorted(self.worlds)[pick % len(self.worlds)]

    def refused(self, reply: Any, *codes: str) -> None:
        assert isinstance(reply, ErrorReply), reply
        assert reply.code in codes, reply
        assert not reply.fatal

    # Worlds -----------------------------------------------------------------------------------------------------

    @rule(
        pick=st.integers(0, 9),
        scenario=st.sampled_from(["zero", "zero-short"]),
        seed=st.integers(0, 1),
        newest=st.sampled_from([None, 1]),
    )
    def reset(self, pick: int, scenario: str, seed: int, newest: int | None) -> None:
        name = self.name(pick)
        world = {"scenario": scenario, "seed": seed, "rig": "front1", "newest_frames": newest}
        reply = self.ask("reset", session=name, **world)
        assert isinstance(reply, Started), reply
        self.worlds[name] = World((scenario, seed))

    @rule(pick=st.integers(0, 9), wrong=st.sampled_from(["scenario", "rig", "tier", "weather"]))
    def reset_to_what_there_is_not(self, pick: int, wrong: str) -> None:
        request: dict[str, Any] = {"scenario": "zero", "rig": "front1"}
        if wrong in request:
            request[wrong] = "no-such"
        else:
            request["options"] = {"cameras": ["no-such"]} if wrong == "tier" else {wrong: "no-such"}
        self.refused(self.ask("reset", session=self.name(pick), **request), "BAD_REQUEST")

    @rule(pick=st.integers(0, 9), accels=st.lists(st.sampled_from([0.0, 0.5, -1.0]), min_size=1, max_size=4))
    def step(self, pick: int, accels: list[float]) -> None:
        name = self.name(pick)
        for accel in accels:
            request = chunk(self.worlds[name].next_chunk, accel)
            self.take(name, accel, self.ask("step", session=name, **request))

    def take(self, name: str, accel: float, reply: Any) -> None:
        """The answer to the next step of a session."""
        world = self.worlds[name]
        if not world.ready:
            self.refused(reply, "BAD_STATE")
            return
        assert isinstance(reply, Stepped), reply
        assert world.history is not None
        history = (*world.history, accel)
        self.worlds[name] = replace(world, history=history, last=(world.next_chunk, accel))
        self.looks(history, reply)
        assert (reply.chunk, reply.terminated) == (world.next_chunk, self.worlds[name].ended)

    def looks(self, history: History, reply: Any) -> None:
        """The same history always looks the same, to who gets its newest frames alone too."""
        picture = reply.frames["front_wide"][-1] + reply.ego.tobytes()
        assert self.seen.setdefault(history, picture) == picture

    @rule(
        accels=st.lists(st.sampled_from([0.0, 0.5]), min_size=MOST_SESSIONS, max_size=MOST_SESSIONS),
        stream=st.booleans(),
    )
    def step_all(self, accels: list[float], stream: bool) -> None:
        names = sorted(self.worlds)
        steps = [
            {"session": name, **chunk(self.worlds[name].next_chunk, accel)}
            for name, accel in zip(names, accels, strict=False)
        ]
        reply = self.ask("step_many", steps=steps, stream=stream)
        assert isinstance(reply, SteppedMany)
        results = list(reply.results)
        while reply.more:
            reply = self.reply()
            results += reply.results
        told = {result.session: result for result in results}
        assert len(told) == len(results) == len(steps)
        for name, accel in zip(names, accels, strict=False):
            self.take(name, accel, told[name])

    @rule(pick=st.integers(0, 9), same=st.booleans())
    def repeat_the_last_step(self, pick: int, same: bool) -> None:
        name = self.name(pick)
        world = self.worlds[name]
        if world.last is None:
            return
        number, accel = world.last
        reply = self.ask("step", session=name, **chunk(number, accel if same else accel + 0.25))
        if not same:
            self.refused(reply, "CHUNK_CONFLICT")
            return
        assert isinstance(reply, Stepped)
        assert world.history is not None
        self.looks(world.history, reply)

    @rule(pick=st.integers(0, 9), ahead=st.sampled_from([-2, 1, 2, 1000]))
    def step_out_of_order(self, pick: int, ahead: int) -> None:
        name = self.name(pick)
        world = self.worlds[name]
        number = world.next_chunk + ahead
        if number < 0:
            return
        reply = self.ask("step", session=name, **chunk(number, 0.0))
        self.refused(reply, "OUT_OF_ORDER" if world.ready else "BAD_STATE")
        if world.ready:
            assert reply.details["next_chunk"] == world.next_chunk

    @rule(pick=st.integers(0, 9), bad=st.sampled_from(["rows", "range", "nan", "space"]))
    def step_with_a_bad_action(self, pick: int, bad: str) -> None:
        name = self.name(pick)
        world = self.worlds[name]
        request = chunk(world.next_chunk, {"range": 1e6, "nan": float("nan")}.get(bad, 0.0))
        if bad == "rows":
            request["actions"] = request["actions"][:2]
        if bad == "space":
            request["space"] = "trajectory"
        reply = self.ask("step", session=name, **request)
        self.refused(reply, "BAD_ACTION", *([] if world.ready else ["BAD_STATE"]))

    # Snapshots, forks, tiers --------------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 9))
    def snapshot(self, pick: int) -> None:
        name = self.name(pick)
        reply = self.ask("snapshot", session=name)
        if self.worlds[name].history is None:
            self.refused(reply, "BAD_STATE")
            return
        assert isinstance(reply, SnapshotTaken)
        assert reply.next_chunk == self.worlds[name].next_chunk
        self.snapshots[reply.handle] = replace(self.worlds[name], last=None)

    @rule(pick=st.integers(0, 9), which=st.integers(0, 9))
    def restore(self, pick: int, which: int) -> None:
        name = self.name(pick)
        handle = (sorted(self.snapshots) or ["no-such"])[which % max(1, len(self.snapshots))]
        reply = self.ask("restore", session=name, handle=handle)
        if not self.snapshots:
            self.refused(reply, "UNKNOWN_SNAPSHOT")
            return
        assert isinstance(reply, Restored), reply
        self.worlds[name] = self.snapshots[handle]
        assert reply.next_chunk == self.worlds[name].next_chunk

    @precondition(lambda self: len(self.worlds) < MOST_SESSIONS)
    @rule(pick=st.integers(0, 9), count=st.integers(1, 2))
    def fork(self, pick: int, count: int) -> None:
        name = self.name(pick)
        count = min(count, MOST_SESSIONS - len(self.worlds))
        reply = self.ask("fork", session=name, count=count)
        if self.worlds[name].history is None:
            self.refused(reply, "BAD_STATE")
            return
        assert isinstance(reply, Forked)
        assert len(reply.sessions) == count
        for info in reply.sessions:
            assert info.next_chunk == self.worlds[name].next_chunk
            self.worlds[info.session] = replace(self.worlds[name], last=None)
            self.tokens[info.session] = info.resume_token

    @rule(pick=st.integers(0, 9), tier=st.sampled_from(["exact", "warp"]))
    def set_tier(self, pick: int, tier: str) -> None:
        name = self.name(pick)
        reply = self.ask("set_tier", session=name, tier=tier)
        if self.worlds[name].history is None:
            self.refused(reply, "BAD_STATE")
        elif tier == "warp":
            self.refused(reply, "BAD_REQUEST")
        else:
            assert isinstance(reply, TierSet)
            assert reply.next_chunk == self.worlds[name].next_chunk

    @precondition(lambda self: len(self.worlds) > 1)
    @rule(pick=st.integers(0, 9))
    def close(self, pick: int) -> None:
        name = self.name(pick)
        assert isinstance(self.ask("close", session=name), Closed)
        del self.worlds[name]
        self.refused(self.ask("snapshot", session=name), "UNKNOWN_SESSION")

    # Trouble ------------------------------------------------------------------------------------------------------

    @rule(seed=st.integers(0, 1 << 30))
    def send_garbage(self, seed: int) -> None:
        """Damaged bytes of every kind of message are refused in a typed way, and nothing changes."""
        rng = random.Random(seed)
        data = bytearray(rng.choice(GOLDEN))
        del data[rng.randrange(len(data)) :]  # cut short: never a whole message
        self.wire.send(bytes(data))
        self.refused(self.reply(), "BAD_MESSAGE")

    @rule()
    def ask_for_sessions_of_others(self) -> None:
        for request in ("snapshot", "fork", "close"):
            self.refused(self.ask(request, session="s1-00000000"), "UNKNOWN_SESSION")

    @rule(goodbye=st.booleans())
    def drop_the_connection_and_come_back(self, goodbye: bool) -> None:
        if goodbye:
            self.closing.close()
        else:
            self.wire.socket.close()
        self.connect([{"session": name, "token": self.tokens[name]} for name in self.worlds])

    @invariant()
    def the_socket_still_answers(self) -> None:
        if hasattr(self, "wire"):
            self.refused(self.ask("watch", session="x"), "BAD_STATE")

    def teardown(self) -> None:
        for name in getattr(self, "worlds", {}):
            self.ask("close", session=name)
        if hasattr(self, "closing"):
            self.closing.close()


def chunk(number: int, accel: float) -> dict[str, Any]:
    return {"chunk": number, "actions": np.tile(np.float32([0.0, accel]), (4, 1))}


@pytest.fixture(scope="module")
def url(run_server: Any) -> Iterator[str]:
    with run_server("--set", "sessions_per_worker=32") as server:
        yield server.url


def test_whatever_a_driver_does_the_sessions_are_as_the_model_says(url: str) -> None:
    DriverMachine.url = url
    run_state_machine_as_test(
        DriverMachine,
        settings=settings(
            max_examples=CONVERSATIONS,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
