"""What the server's own socket promises to those who connect, and what its processes do without."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from server.config import ServerConfig
from server.serve import _listen, new_event_loop, url_of


def test_small_replies_are_not_held_back() -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(_nodelay_of_an_accepted_socket()) != 0


async def _nodelay_of_an_accepted_socket() -> int:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire: socket.socket = writer.get_extra_info("socket")
        accepted.set_result(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with _listen(ServerConfig(port=0)) as listener:
        host, port = url_of(listener).removeprefix("http://").split(":")
        async with await asyncio.start_server(greet, sock=listener):
            _, writer = await asyncio.open_connection(host, int(port))
            try:
                return await asyncio.wait_for(accepted, 20)
            finally:
                writer.close()


def test_a_worker_loads_no_libraries_that_it_never_uses(run_server: Any) -> None:
    with run_server("--engine", "reference") as server:
        (worker,) = server.workers
        loaded = Path(f"/proc/{worker}/maps").read_text()
        assert "/numpy/" in loaded  # libraries are seen there
        assert not [name for name in ("/pandas/", "/matplotlib/", "/pygame/") if name in loaded]
