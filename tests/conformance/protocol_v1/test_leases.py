"""Drivers that go and come back."""

from typing import Any

from clients.protocol import CloseCode


def test_a_dropped_driver_resumes_with_its_token(dial: Any) -> None:
    first = dial()
    (session,) = first.ask("hello", encoding="raw").sessions
    first.reset()
    lost = first.step(0)
    first.wire.socket.close()  # no goodbye
    second = dial()
    resume = [{"session": session.session, "token": session.resume_token}]
    (info_now,) = second.ask("hello", encoding="raw", resume=resume).sessions
    assert info_now.next_chunk == 1
    assert second.step(0).frames == lost.frames
    assert second.step(1).chunk == 1
    second.ask("close")


def test_a_resume_token_takes_the_session_from_another_socket(world: Any, dial: Any) -> None:
    session = world.welcome.sessions[0]
    other = dial()
    other.ask("hello", resume=[{"session": session.session, "token": session.resume_token}])
    assert world.closed() == CloseCode.TAKEN_OVER
    assert other.step(0).chunk == 0
    other.ask("close")


def test_a_wrong_resume_token_is_refused(world: Any, dial: Any) -> None:
    session = world.welcome.sessions[0].session
    other = dial()
    refused = other.ask("hello", resume=[{"session": session, "token": "guess"}])
    assert (refused.code, refused.fatal) == ("UNKNOWN_SESSION", True)
    assert world.step(0).chunk == 0
