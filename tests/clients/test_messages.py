"""Every message against its golden bytes. `ROADLOOP_WRITE_GOLDEN=1 pytest tests/clients/test_messages.py` rewrites them."""

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from clients.protocol import (
    ActionSpace,
    CacheTelemetry,
    Camera,
    Close,
    Closed,
    ErrorCode,
    ErrorReply,
    Fork,
    Forked,
    Frames,
    Hello,
    Notice,
    ProtocolError,
    Reset,
    Restore,
    Restored,
    ResumeEntry,
    SessionChoices,
    SessionInfo,
    SetTier,
    Snapshot,
    SnapshotTaken,
    Started,
    Step,
    StepItem,
    StepMany,
    Stepped,
    SteppedMany,
    TierSet,
    Watch,
    Watching,
    Welcome,
    pack,
    parse_reply,
    parse_request,
    unpack,
)
from clients.protocol.replies import AGENT_COLUMNS, EGO_COLUMNS, Limits
from clients.protocol.schema import protocol_json_schema

ACTIONS = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
CAMERA = Camera(
    name="front",
    height=2,
    width=3,
    fx=2.0,
    fy=2.0,
    cx=1.5,
    cy=1.0,
    x_m=1.5,
    y_m=0.0,
    z_m=1.6,
    yaw_rad=0.0,
    pitch_rad=0.0,
    roll_rad=0.0,
)
INFO = SessionInfo(session="s-1", resume_token="t-1", state="new", next_chunk=0)
SCENE = {
    "encoding": "jpeg",
    "frames": {"front": [b"\xff\xd8\xff\xd9"]},
    "ego": np.arange(7, dtype=np.float64)[None],
    "agents": np.zeros((1, 8), np.float32),
    "agent_kinds": ["car"],
    "metrics": {"off_road": [False], "route_completion": 0.5},
}
CACHE = CacheTelemetry(
    tier="balanced",
    reasons=["skipped", "shadow", "kv_update"],
    reason=np.array([[2, 2], [0, 1]], np.uint8),
    skip=0.25,
    cosine=np.array([[1.0, 1.0], [0.99, 0.98]], np.float32),
    deviation=np.array([[0.0, 0.0], [0.5, 0.25]], np.float32),
    age=np.array([[0.0, 0.0], [2.0, 1.0]], np.float32),
    error=np.array([[0.0, 0.0], [0.0, 0.125]], np.float32),
    gate_us=41.5,
    bytes=1 << 20,
)
CHUNK = {
    "session": "s-1",
    "chunk": 3,
    **SCENE,
    "reward": 1.25,
    "terminated": False,
    "truncated": False,
    "outcome": "running",
    "reason": "",
    "cache": None,
    "timing": {"denoise": 12.5},
}
STEPPED = Stepped(id=7, **CHUNK)

REQUESTS = {
    "hello": Hello(
        id=1,
        client="test",
        capabilities=["fork"],
        sessions=0,
        resume=[ResumeEntry(session="s-1", token="t-1")],
        engine="reference",
    ),
    "reset": Reset(
        id=2,
        session="s-1",
        scenario="urban",
        seed=4,
        rig="front1",
        options=SessionChoices(cameras=["front"], weather="rain", time_of_day="dusk"),
        mode="realtime",
        newest_frames=1,
    ),
    "step": Step(id=3, session="s-1", chunk=3, actions=ACTIONS, deadline_ms=500.0),
    "step_many": StepMany(id=4, steps=[StepItem(session="s-1", chunk=3, actions=ACTIONS)], stream=True),
    "snapshot": Snapshot(id=5, session="s-1"),
    "restore": Restore(id=6, session="s-1", handle="snap-1"),
    "fork": Fork(id=7, session="s-1", count=2),
    "set_tier": SetTier(id=10, session="s-1", tier="fast"),
    "close": Close(id=8, session="s-1"),
    "watch": Watch(id=9, session="s-1", ticket="once", cameras=["front"], max_rate_hz=12.0, encoding="h264"),
}

REPLIES = {
    "welcome": Welcome(
        id=1,
        protocol_minor=1,
        server="roadloop 0.1.0",
        capabilities=["fork"],
        engine="reference",
        model="reference",
        model_digest="0" * 64,
        determinism="cpu-x86_64",
        frames_per_chunk=4,
        dt_us=83_333,
        encoding="jpeg",
        encodings=["jpeg", "png", "raw"],
        rig="front1",
        cameras=[CAMERA],
        action_spaces=[
            ActionSpace(
                name="controls", columns=["steering_rad", "accel_mps2"], low=[-0.6, -8], high=[0.6, 4]
            )
        ],
        tiers=["exact", "safe", "balanced", "fast"],
        weathers=["clear", "rain"],
        times_of_day=["day", "dusk"],
        ego_columns=list(EGO_COLUMNS),
        agent_columns=list(AGENT_COLUMNS),
        limits=Limits(
            max_message_bytes=1 << 20,
            max_sessions=64,
            lease_s=30.0,
            idle_timeout_s=600.0,
            snapshot_bytes=1 << 30,
        ),
        sessions=[INFO],
    ),
    "started": Started(
        id=2,
        session="s-1",
        next_chunk=0,
        cameras=[CAMERA],
        mode="lockstep",
        hold_policy="coast",
        timing={},
        **SCENE,
    ),
    "stepped": STEPPED,
    "stepped_many": SteppedMany(
        id=4,
        results=[
            STEPPED,
            ErrorReply(id=4, session="s-2", code=ErrorCode.OUT_OF_ORDER, message="expected chunk 3, got 9"),
        ],
        more=True,
    ),
    "snapshot_taken": SnapshotTaken(
        id=5, session="s-1", handle="snap-1", next_chunk=4, size_bytes=10, digest="0" * 64
    ),
    "restored": Restored(id=6, session="s-1", next_chunk=4, cameras=[CAMERA], **SCENE),
    "forked": Forked(id=7, session="s-1", sessions=[INFO]),
    "tier_set": TierSet(id=10, session="s-1", tier="fast", next_chunk=4),
    "closed": Closed(id=8, session="s-1"),
    "error": ErrorReply(
        id=3,
        session="s-1",
        code=ErrorCode.WORKER_LOST,
        message="the worker ended",
        retryable=True,
        details={"next_chunk": 2},
    ),
    "notice": Notice(code="DRAINING", message="the server is going away"),
    "watching": Watching(id=9, session="s-1", frames_per_chunk=4, dt_us=83_333, cameras=[CAMERA]),
    "frames": Frames(session="s-1", chunk=3, cache=CACHE, timing={}, **SCENE),
}

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = [("request", name, message) for name, message in REQUESTS.items()]
EXAMPLES += [("reply", name, message) for name, message in REPLIES.items()]


def plain(value: Any) -> Any:
    """The value with arrays as lists, so that == works."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(
    ("kind", "name", "message"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_message_reads_back_from_its_golden_bytes(kind: str, name: str, message: BaseModel) -> None:
    path = GOLDEN / f"{kind}_{name}.msgpack"
    packed = pack(message)
    if os.environ.get("ROADLOOP_WRITE_GOLDEN"):
        path.write_bytes(packed)
    assert packed == path.read_bytes()
    parse = parse_request if kind == "request" else parse_reply
    assert plain(parse(path.read_bytes())) == plain(message)


def test_every_message_type_has_a_golden_example() -> None:
    assert {m.type for m in REQUESTS.values()} == set(REQUESTS)
    assert {m.type for m in REPLIES.values()} == set(REPLIES)
    assert len(list(GOLDEN.glob("*.msgpack"))) == len(EXAMPLES)


def test_telemetry_of_a_cache_knows_what_was_skipped_and_may_leave_out_what_was_not_measured() -> None:
    assert CACHE.skipped.tolist() == [[False, False], [True, False]]
    least = {"tier": "fast", "reasons": ["skipped"], "reason": np.zeros((1, 1), np.uint8)}
    told = parse_reply(pack(vars(REPLIES["frames"]) | {"cache": least}))
    assert isinstance(told, Frames)
    assert told.cache is not None
    assert (told.cache.skip, told.cache.cosine, told.cache.gate_us) == (None, None, None)


def test_a_server_of_the_first_minor_version_is_understood() -> None:
    welcome = unpack((GOLDEN / "reply_welcome.msgpack").read_bytes())
    for name in ("tiers", "weathers", "times_of_day"):
        del welcome[name]
    told = parse_reply(pack(welcome | {"protocol_minor": 0}))
    assert isinstance(told, Welcome)
    assert told.tiers == ["exact"]


def test_the_published_schema_is_that_of_the_messages() -> None:
    published = (Path(__file__).parents[2] / "docs" / "schemas" / "protocol.json").read_text()
    assert published == protocol_json_schema(), (
        "run: python -m clients.protocol.schema > docs/schemas/protocol.json"
    )
    types = {part["$ref"].rsplit("/", 1)[1] for part in json.loads(published)["$defs"]["Reply"]["oneOf"]}
    assert types == {type(message).__name__ for message in REPLIES.values()}


def test_unknown_fields_are_ignored() -> None:
    step = unpack((GOLDEN / "request_step.msgpack").read_bytes()) | {"invented_later": {"x": 1}}
    assert isinstance(parse_request(pack(step)), Step)


def test_actions_may_be_nested_lists() -> None:
    step = parse_request(pack({"type": "step", "id": 1, "chunk": 0, "actions": [[0, 1], [2, 3]]}))
    assert isinstance(step, Step)
    assert step.actions.dtype == np.float32
    assert step.actions.shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"type": "fly"}, ErrorCode.BAD_MESSAGE, "fly"),
        ({"type": None}, ErrorCode.BAD_MESSAGE, "type"),
        ({"id": -1}, ErrorCode.BAD_MESSAGE, "id"),
        ({"id": True}, ErrorCode.BAD_MESSAGE, "id"),
        ({"chunk": "3"}, ErrorCode.BAD_MESSAGE, "chunk"),
        ({"chunk": 1 << 60}, ErrorCode.BAD_MESSAGE, "chunk"),
        ({"session": "x" * 500}, ErrorCode.BAD_MESSAGE, "session"),
        ({"space": "thrust"}, ErrorCode.BAD_MESSAGE, "space"),
        ({"deadline_ms": float("nan")}, ErrorCode.BAD_MESSAGE, "deadline_ms"),
        ({"actions": [[float("nan"), 0]]}, ErrorCode.BAD_ACTION, "finite"),
        ({"actions": [1, 2]}, ErrorCode.BAD_ACTION, "shape"),
        ({"actions": [[1, 2], [3]]}, ErrorCode.BAD_ACTION, "numbers"),
        ({"actions": [["a", "b"]]}, ErrorCode.BAD_ACTION, "numbers"),
        ({"actions": np.zeros((100, 100))}, ErrorCode.BAD_ACTION, "shape"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_and_the_id_is_kept(
    change: dict[str, Any], code: ErrorCode, words: str
) -> None:
    step = {"type": "step", "id": 12, "chunk": 3, "actions": [[0.0, 0.0]]} | change
    with pytest.raises(ProtocolError, match=words) as raised:
        parse_request(pack(step))
    assert raised.value.code is code
    assert not raised.value.fatal
    assert raised.value.details.get("id") == (12 if "id" not in change else raised.value.details.get("id"))


def mutate(data: bytes, seed: int) -> bytes:
    """Flip, cut, repeat and splice bytes."""
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if at < len(out):
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randint(1, 8)]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                out[at:at] = out[: rng.randint(0, 30)]
            case _ if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def fuzz(count: int, seed: int = 0) -> int:
    """Parse `count` mutated golden messages; anything but a message or a ProtocolError escapes. Returns refusals."""
    frames = [path.read_bytes() for path in sorted(GOLDEN.glob("request_*"))]
    refused = 0
    for k in range(count):
        try:
            parse_request(mutate(frames[k % len(frames)], seed + k))
        except ProtocolError:
            refused += 1
    return refused


def test_mutated_golden_bytes_give_a_message_or_a_typed_error() -> None:
    count = int(os.environ.get("ROADLOOP_FUZZ", "20000"))
    refused = fuzz(count)
    assert count * 0.3 < refused < count


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 63)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(REQUESTS)),
    st.dictionaries(
        st.sampled_from(["id", "session", "chunk", "actions", "steps", "options", "resume"]), JSON
    ),
)
@example("step", {"actions": [[3.5e38, 0.0]]})  # more than float32 holds
def test_wrong_values_give_a_message_or_a_typed_error(name: str, change: dict[str, Any]) -> None:
    with contextlib.suppress(ProtocolError):
        parse_request(pack(REQUESTS[name].model_dump() | change))
