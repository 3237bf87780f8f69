"""Policies behind a WebSocket: our client against our server, both against openpi's wire, and everything that can break."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.server import ServerConnection, serve

from clients.observation import Observation
from clients.policies import EpisodeInfo, PastAction, PolicyError, PolicyUnavailableError, load_policy, openpi
from clients.policies.message import episode_of, from_message, to_message
from clients.policies.remote import RemotePolicy
from clients.policies.serve import policy_server
from clients.protocol import ActionSpace, Camera

SPACE = ActionSpace(name="controls", columns=["steering", "accel"], low=[-0.6, -8.0], high=[0.6, 4.0])
PAST = (PastAction("controls", np.full((4, 2), 0.5, np.float32)),)
INFO = EpisodeInfo("urban_cruise", 9, 4, 1 / 12, {"controls": SPACE}, ("front",), 5, PAST)
ZERO = dict.fromkeys(("fx", "fy", "cx", "cy", "x_m", "y_m", "z_m", "yaw_rad", "pitch_rad", "roll_rad"), 0.0)
CAMERA = Camera(name="front", group="front", model="pinhole", height=2, width=3, distortion=[], **ZERO)


def seen(speed: float = 10.0) -> Observation:
    pictures = [np.full((2, 3, 3), k, np.uint8).tobytes() for k in range(4)]
    ego = np.array([[0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0]] * 4)
    metrics = {"lane_offset_m": [0.0] * 4, "heading_error_rad": [0.0] * 4, "speed_limit_mps": [14.0] * 4}
    metrics |= {"time_s": [0.0] * 4, "collision_with": [None] * 4, "ttc_s": [float("inf")] * 4}
    agents = np.zeros((1, 8), np.float32)
    return Observation("s", 4, {"front": CAMERA}, "raw", {"front": pictures}, ego, agents, ["car"], metrics)


@contextmanager
def server_of(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(10)


def test_a_served_policy_drives_as_it_would_at_home() -> None:
    spec = load_policy("lane_keeper")
    home = spec.make()
    with policy_server(spec) as url:
        away = RemotePolicy(url)
        for policy in (home, away):
            policy.reset(INFO)
        for speed in (5.0, 12.0, 3.0):
            np.testing.assert_array_equal(away.act(seen(speed)), home.act(seen(speed)))
        away.reset(INFO)
        home.reset(INFO)
        np.testing.assert_array_equal(away.act(seen(7.0)), home.act(seen(7.0)))
        away.close()


def test_an_observation_survives_the_way() -> None:
    message = openpi.unpack(openpi.pack(to_message(seen(), INFO, first=True, whole_chunk=True)))
    there, here = from_message(message), seen()
    np.testing.assert_array_equal(there.decode("front"), here.decode("front"))
    np.testing.assert_array_equal(there.ego_frames, here.ego_frames)
    assert (there.metrics, there.agent_kinds, there.chunk) == (here.metrics, here.agent_kinds, here.chunk)
    info = episode_of(message)
    assert (info.scenario, info.seed, info.policy_seed, dict(info.action_spaces)) == (
        "urban_cruise",
        9,
        5,
        {"controls": SPACE},
    )
    np.testing.assert_array_equal(info.past[0].values, PAST[0].values)
    assert "episode" not in to_message(seen(), INFO, first=False, whole_chunk=False)


def test_a_plain_openpi_server_gets_its_own_keys_and_its_horizon_is_cut() -> None:
    asked = []

    def openpi_server(socket: ServerConnection) -> None:
        socket.send(msgpack.packb({"reset_pose": [0]}))
        for data in socket:
            asked.append(msgpack.unpackb(data))
            rows = np.arange(20, dtype=np.float64).reshape(10, 2) / 100
            tagged = {b"__ndarray__": True, b"data": rows.tobytes(), b"dtype": "<f8", b"shape": (10, 2)}
            socket.send(msgpack.packb({"actions": tagged}))

    keys = {"image_front": "observation/image", "state": "observation/state", "prompt": "prompt"}
    with server_of(openpi_server) as url:
        policy = RemotePolicy(url, rename=keys, prompt="drive")
        policy.reset(INFO)
        actions = policy.act(seen())
        policy.close()
    np.testing.assert_allclose(actions, np.arange(8).reshape(4, 2) / 100, rtol=1e-6)
    assert set(asked[0]) == {"observation/image", "observation/state", "prompt"}
    assert asked[0]["observation/image"][b"shape"] == [2, 3, 3]
    assert asked[0]["observation/image"][b"data"][0] == 3  # the newest frame
    assert asked[0]["prompt"] == "drive"


def test_a_failing_remote_policy_is_a_policy_error_with_its_last_line() -> None:
    with server_of(_fails) as url:
        policy = RemotePolicy(url)
        policy.reset(INFO)
        with pytest.raises(PolicyError, match="ValueError: the network is tired"):
            policy.act(seen())


def _fails(socket: ServerConnection) -> None:
    socket.send(msgpack.packb({}))
    socket.recv()
    socket.send("Traceback (most recent call last):\n  ...\nValueError: the network is tired\n")
    socket.close(1011)


def test_our_server_answers_nonsense_with_an_error_and_goes_on_serving() -> None:
    from websockets.sync.client import connect

    with policy_server(load_policy("idle")) as url:
        for nonsense in ("text", b"\xc1", msgpack.packb([1]), msgpack.packb({"chunk": 1})):
            with connect(url, proxy=None) as socket:
                assert openpi.unpack(socket.recv(decode=False))["policy"] == "idle"  # type: ignore[arg-type]
                socket.send(nonsense)
                assert isinstance(socket.recv(), str)
        policy = RemotePolicy(url)
        policy.reset(INFO)
        assert not policy.act(seen()).any()
        policy.close()


def test_nobody_there_and_a_lost_connection_may_be_tried_again() -> None:
    def leaves(socket: ServerConnection) -> None:
        socket.send(msgpack.packb({}))
        socket.recv()

    with server_of(leaves) as url:
        policy = RemotePolicy(url)
        policy.reset(INFO)
        with pytest.raises(PolicyUnavailableError):
            policy.act(seen())
        policy.reset(INFO)  # connects again
        policy.close()
    with pytest.raises(PolicyUnavailableError, match="expected a policy server at ws://127"):
        RemotePolicy(url).reset(INFO)


def test_a_silent_policy_server_is_given_up() -> None:
    waiting = threading.Event()

    def silent(socket: ServerConnection) -> None:
        socket.send(msgpack.packb({}))
        waiting.wait(10)

    with server_of(silent) as url:
        policy = RemotePolicy(url, timeout_s=0.2)
        policy.reset(INFO)
        with pytest.raises(PolicyUnavailableError, match=r"in 0.2 s"):
            policy.act(seen())
        waiting.set()


@pytest.mark.parametrize(
    "tagged",
    [
        {b"__ndarray__": True, b"data": b"12345678", b"dtype": "|O", b"shape": (1,)},
        {b"__ndarray__": True, b"data": b"1", b"dtype": "<f8", b"shape": (1,)},
        {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": (1 << 40, 1 << 40)},
        {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": (-1,)},
        {b"__npgeneric__": True, b"data": 1, b"dtype": "<c8"},
    ],
)
def test_arrays_that_are_none_are_refused(tagged: dict[bytes, object]) -> None:
    with pytest.raises(openpi.OpenPiError):
        openpi.unpack(msgpack.packb({"actions": tagged}))
    with pytest.raises(TypeError, match="dtype"):
        openpi.pack({"actions": np.array([1j])})


@given(st.binary(max_size=64))
def test_any_bytes_are_a_map_or_a_typed_error(data: bytes) -> None:
    with suppress(openpi.OpenPiError):
        assert isinstance(openpi.unpack(data), dict)
