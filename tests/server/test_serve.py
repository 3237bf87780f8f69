"""What the server's own socket promises to those who connect."""

import asyncio
import socket

from server.config import ServerConfig
from server.serve import _listen, url_of


async def test_small_replies_are_not_held_back() -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire: socket.socket = writer.get_extra_info("socket")
        accepted.set_result(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with _listen(ServerConfig(port=0)) as listener:
        host, port = url_of(listener).removeprefix("http://").split(":")
        async with await asyncio.start_server(greet, sock=listener):
            _, writer = await asyncio.open_connection(host, int(port))
            assert await asyncio.wait_for(accepted, 20) != 0
            writer.close()
