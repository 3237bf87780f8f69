"""Several sessions on one socket."""

from typing import Any

from clients.protocol import Started, Stepped, SteppedMany, pack


def test_a_socket_may_drive_many_sessions(dial: Any) -> None:
    socket = dial()
    welcome = socket.ask("hello", sessions=3, encoding="raw")
    names = [s.session for s in welcome.sessions]
    for name in names:
        assert isinstance(socket.reset(session=name), Started)
    assert socket.step(0).code == "BAD_MESSAGE"
    steps = [{"session": name, "chunk": 0, "actions": socket.actions()} for name in names]
    reply = socket.ask("step_many", steps=steps)
    assert isinstance(reply, SteppedMany)
    assert [(r.session, r.chunk) for r in reply.results] == [(name, 0) for name in names]
    assert reply.results[0].frames == reply.results[1].frames
    reply = socket.ask("step_many", steps=[steps[0] | {"chunk": 1}, steps[1] | {"chunk": 5}])
    assert isinstance(reply.results[0], Stepped)
    assert reply.results[1].code == "OUT_OF_ORDER"
    assert socket.ask("step_many", steps=[steps[2] | {"chunk": 1}] * 2).code == "BAD_MESSAGE"
    for name in names:
        assert socket.ask("close", session=name).type == "closed"
    socket.closing.close()


def test_results_of_many_sessions_may_come_one_by_one(dial: Any) -> None:
    socket = dial()
    names = [s.session for s in socket.ask("hello", sessions=3, encoding="raw").sessions]
    for name in names:
        socket.reset(session=name)
    chunks = dict.fromkeys(names, 0) | {names[1]: 5}
    steps = [{"session": name, "chunk": chunk, "actions": socket.actions()} for name, chunk in chunks.items()]
    parts = [socket.ask("step_many", steps=steps, stream=True)]
    while parts[-1].more:
        parts.append(socket.reply())
    assert {part.id for part in parts} == {3 + 2}
    results = {result.session: result for part in parts for result in part.results}
    assert sum(len(part.results) for part in parts) == 3
    assert results[names[0]].frames == results[names[2]].frames
    assert results[names[1]].code == "OUT_OF_ORDER"
    again = socket.ask("step_many", steps=steps[:1])
    assert not again.more
    assert again.results[0].frames == results[names[0]].frames
    for name in names:
        assert socket.ask("close", session=name).type == "closed"
    socket.closing.close()


def test_who_hangs_up_amid_the_results_gets_them_again(dial: Any) -> None:
    first = dial()
    sessions = first.ask("hello", sessions=3, encoding="raw").sessions
    for session in sessions:
        first.reset(session=session.session)
    steps = [{"session": s.session, "chunk": 0, "actions": first.actions()} for s in sessions]
    first.wire.send(pack({"type": "step_many", "id": 9, "steps": steps, "stream": True}))
    first.reply()
    first.wire.socket.close()  # no goodbye
    second = dial()
    resume = [{"session": s.session, "token": s.resume_token} for s in sessions]
    second.ask("hello", encoding="raw", resume=resume)
    for _ in range(2):
        results = second.ask("step_many", steps=steps).results
        assert [result.chunk for result in results] == [0, 0, 0]
    after = second.ask("step_many", steps=[each | {"chunk": 1} for each in steps]).results
    assert [result.chunk for result in after] == [1, 1, 1]
    for session in sessions:
        second.ask("close", session=session.session)
    second.closing.close()
