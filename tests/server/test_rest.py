"""REST, the door, metrics and recordings, against one running server with tokens."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect as raw_connect
from websockets.typing import Subprotocol

from clients.client import connect, watch
from clients.handshake import open_socket, socket_url
from clients.protocol import SUBPROTOCOL, ErrorCode, ProtocolError, Watch, pack, parse_reply
from server.recording import RecordingError, read_recording
from server.replay import replay

RIG = "front1"
TOKENS = {"driver": ["drive", "view"], "other": ["drive"], "viewer": ["view"], "boss": ["admin"]}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def url(run_server: Any, records: Path) -> Iterator[str]:
    tokens = [
        {
            "name": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "scopes": scopes,
            "max_sessions": 6,
        }
        for name, scopes in TOKENS.items()
    ]
    config = records / "server.yaml"
    config.write_text(yaml.safe_dump({"tokens": tokens, "hello_timeout_s": 0.5, "record_dir": str(records)}))
    with run_server("--config", str(config)) as server:
        yield server.url


@pytest.fixture
def call(url: str, http: Any) -> Callable[..., Any]:
    def call(path: str, method: str = "GET", body: Any = None, token: str | None = "driver") -> Any:
        return http(url, path, method, body, token)

    return call


def test_sessions_are_created_listed_forked_restored_and_deleted(call: Any, url: str) -> None:
    created = call("/v1/sessions", "POST")
    assert created.status == 201
    name = created.body["session"]
    with connect(url, token="driver", resume={name: created.body["resume_token"]}) as client:
        client.session.reset("zero", rig=RIG)
        client.session.step([0.0, 0.0])
        view = call(f"/v1/sessions/{name}").body
        assert (view["state"], view["next_chunk"], view["rig"], view["driven"]) == ("ready", 1, RIG, True)
        assert "resume_token" not in view
        taken = call(f"/v1/sessions/{name}/snapshots", "POST")
        assert (taken.status, taken.body["next_chunk"]) == (201, 1)
        assert call(f"/v1/sessions/{name}/restore", "POST", {"handle": taken.body["handle"]}).status == 200
        assert [s["handle"] for s in call("/v1/snapshots").body] == [taken.body["handle"]]
        (copy,) = call(f"/v1/sessions/{name}/fork", "POST", {"count": 1}).body
        assert call(f"/v1/sessions/{copy['session']}", "DELETE").status == 204
        assert call(f"/v1/snapshots/{taken.body['handle']}", "DELETE").status == 204
        assert call(f"/v1/snapshots/{taken.body['handle']}", "DELETE").status == 404
        assert call(f"/v1/sessions/{name}/fork", "POST", {"copies": 1}).body["code"] == "BAD_MESSAGE"
    assert call(f"/v1/sessions/{name}").status == 404


def test_only_its_owner_can_take_the_wheel_of_a_session(call: Any, url: str) -> None:
    with connect(url, token="driver") as first:
        first.session.reset("zero", rig=RIG)
        name = first.session.name
        assert call(f"/v1/sessions/{name}/wheel", "POST", token="other").status == 404
        assert call(f"/v1/sessions/{name}/wheel", "POST", token="viewer").status == 403
        taken = call(f"/v1/sessions/{name}/wheel", "POST")
        assert (taken.status, taken.body["session"]) == (201, name)
        with connect(url, token="driver", resume={name: taken.body["resume_token"]}) as second:
            second.session.step([0.0, 0.0])
            with pytest.raises(ProtocolError) as displaced:
                first.session.step([0.0, 0.0])
            assert displaced.value.code is ErrorCode.TAKEN_OVER


def test_the_openapi_document_names_every_error_and_answer(call: Any) -> None:
    document = call("/openapi.json").body
    assert {"/healthz", "/readyz", "/version", "/v1/server", "/v1/sessions", "/v1/tickets"} <= document[
        "paths"
    ].keys()
    post = document["paths"]["/v1/sessions"]["post"]
    assert {"201", "401", "403", "429", "503"} <= post["responses"].keys()


@pytest.mark.parametrize(
    ("path", "method", "token", "status"),
    [
        ("/healthz", "GET", None, 200),
        ("/readyz", "GET", None, 200),
        ("/version", "GET", None, 200),
        ("/metrics", "GET", None, 401),
        ("/metrics", "GET", "viewer", 200),
        ("/v1/server", "GET", None, 401),
        ("/v1/server", "GET", "wrong", 401),
        ("/v1/server", "GET", "viewer", 200),
        ("/v1/scenarios", "GET", "viewer", 200),
        ("/v1/sessions", "POST", "viewer", 403),
        ("/v1/sessions", "GET", "other", 403),
        ("/v1/sessions", "GET", "boss", 200),
        ("/v1/sessions/none", "DELETE", "driver", 404),
        ("/nowhere", "GET", "driver", 404),
    ],
)
def test_scopes_open_what_they_name(
    call: Any, path: str, method: str, token: str | None, status: int
) -> None:
    assert call(path, method, token=token).status == status


def test_nobody_ends_the_session_of_another(call: Any) -> None:
    name = call("/v1/sessions", "POST").body["session"]
    assert call(f"/v1/sessions/{name}", "DELETE", token="other").status == 404
    assert call(f"/v1/sessions/{name}", "DELETE", token="boss").status == 204


def test_a_token_has_its_limit_of_sessions(call: Any) -> None:
    created = [call("/v1/sessions", "POST", token="other") for _ in range(7)]
    assert [c.status for c in created] == [201] * 6 + [429]
    assert "retry-after" in created[-1].headers
    for answer in created[:6]:
        call(f"/v1/sessions/{answer.body['session']}", "DELETE", token="other")


# The door -----------------------------------------------------------------------------------------------------------


def test_a_driver_without_a_token_is_refused_before_the_upgrade(url: str) -> None:
    for token, code in ((None, ErrorCode.UNAUTHENTICATED), ("wrong", ErrorCode.UNAUTHENTICATED)):
        with pytest.raises(ProtocolError, match=code):
            connect(url, token=token)
    with pytest.raises(ProtocolError, match="FORBIDDEN"):
        connect(url, token="viewer")


def test_pages_of_other_sites_cannot_open_a_socket(url: str) -> None:
    headers = {"Authorization": "Bearer driver", "Origin": "https://elsewhere.example"}
    address = socket_url(url, "/v1/drive")
    with pytest.raises(websockets.exceptions.InvalidStatus) as raised:  # noqa: SIM117
        with raw_connect(
            address, additional_headers=headers, subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None
        ):
            pass
    assert raised.value.response.status_code == 403


def test_a_ticket_lets_one_browser_watch_one_session_once(call: Any, url: str) -> None:
    with connect(url, token="driver") as client:
        client.session.reset("zero", rig=RIG)
        body = {"scope": "view", "session": client.session.name}
        ticket = call("/v1/tickets", "POST", body, "viewer").body["ticket"]
        page = {"Origin": url}
        for expected in ("watching", "error"):
            wire, closing = open_socket(url, "/v1/view", page)
            with closing:
                wire.send(pack(Watch(id=1, session=client.session.name, ticket=ticket)))
                assert parse_reply(wire.recv(timeout=10, decode=False)).type == expected
        assert call("/v1/tickets", "POST", {"scope": "drive"}, "viewer").status == 403
        assert call("/v1/tickets", "POST", {"scope": "view"}, "viewer").status == 400


def test_a_socket_that_says_nothing_is_closed(url: str) -> None:
    wire, closing = open_socket(url, "/v1/drive", {"Authorization": "Bearer driver"})
    with closing:
        assert parse_reply(wire.recv(timeout=10, decode=False)).fatal  # type: ignore[union-attr]
        with pytest.raises(websockets.exceptions.ConnectionClosed, match="4408"):
            wire.recv(timeout=10)


def test_the_watch_iterator_yields_the_newest_frames_of_chosen_cameras(url: str) -> None:
    with connect(url, token="driver") as client:
        client.session.reset("zero", rig="front3")
        seen = watch(url, client.session.name, token="viewer", cameras=["front_wide"], timeout_s=10)
        assert next(seen).chunk == -1
        client.session.step([0.0, 0.0])
        newest = next(seen)
        assert newest.chunk == 0
        assert {name: image.shape for name, image in newest.images().items()} == {
            "front_wide": (4, 128, 224, 3)
        }
        name = client.session.name
    with pytest.raises(ProtocolError, match="UNKNOWN_SESSION"):
        next(watch(url, name, token="viewer"))


# Metrics ------------------------------------------------------------------------------------------------------------


def scrape(call: Any) -> dict[str, float]:
    families = text_string_to_metric_families(call("/metrics").body)
    return {f"{s.name}{sorted(s.labels.items())}": s.value for family in families for s in family.samples}


def test_metrics_move_and_their_number_does_not_grow(call: Any, url: str) -> None:
    def session() -> None:
        with connect(url, token="driver") as client:
            client.session.reset("zero", rig=RIG, mode="realtime")
            client.session.step([0.0, 0.0])
            client.session.snapshot()
            client.session.fork()
            with pytest.raises(ProtocolError):
                client.session.restore("none")

    session()
    time.sleep(0.6)
    before = scrape(call)
    for _ in range(5):
        session()
    time.sleep(0.6)
    after = scrape(call)
    assert after.keys() == before.keys()
    for name in ("chunks_total[]", "frames_total[]", "step_seconds_count[]", "action_age_seconds_count[]"):
        assert after[f"roadloop_{name}"] > before[f"roadloop_{name}"], name
    assert after["roadloop_session_slots[]"] == 64
    assert after["roadloop_errors_total[('code', 'UNKNOWN_SNAPSHOT')]"] > 4


# Recordings ---------------------------------------------------------------------------------------------------------


def test_a_recording_replays_to_the_same_digests(url: str, records: Path) -> None:
    with connect(url, token="driver") as client:
        client.session.reset("zero", seed=3, rig=RIG, record=True)
        for k in range(4):
            client.session.step([0.01 * k, 0.5])
    (path,) = records.glob("*.rlrec")
    report = replay(path)
    assert report.same
    assert report.chunks == 4
    cut = records / "cut.rlrec"
    cut.write_bytes(path.read_bytes()[:-7])
    assert replay(cut).chunks == 3
    cut.write_bytes(path.read_bytes().replace(b"outcome", b"outcame"))
    with pytest.raises(RecordingError, match="checksum"):
        list(read_recording(cut))


def test_a_replay_names_the_first_chunk_that_differs(records: Path) -> None:
    from server.recording import Recorder

    (path,) = [p for p in records.glob("*.rlrec") if p.name != "cut.rlrec"]
    header, *entries = read_recording(path)
    forged = records / "forged.rlrec"
    recorder = Recorder(forged, {k: v for k, v in header.items() if k != "kind"})
    entries[2]["frame_digest"] = "0" * 64
    for entry in entries:
        recorder.write(entry)
    recorder.close()
    assert replay(forged).difference == "chunk 1 differs in its frames"


def test_the_front_end_never_imports_the_model() -> None:
    probe = "import sys, server.serve; print([m for m in ('torch', 'cv2', 'worldmodel') if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"
