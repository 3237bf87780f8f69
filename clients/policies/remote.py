"""A policy behind a WebSocket: openpi's policy servers, and our own (`roadloop policy serve`)."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import websockets.exceptions
import websockets.sync.client

from ..observation import Observation
from ..protocol.requests import ActionSpaceName
from . import openpi
from .message import to_message
from .policy import EpisodeInfo, PolicyError, PolicyUnavailableError


class RemotePolicy:
    """Asks a policy server for every chunk. One connection, opened at the first episode.

    The server may answer more rows than a chunk has frames (an action horizon); the first ones are driven.

    Args:
        url: ws:// or wss:// address.
        space: the action space of its answers; None asks the server's metadata, else `controls`.
        rename: key of our message -> key that the server wants; with it, nothing else is sent.
        prompt: instead of the scenario's name.
        api_key: sent as `Authorization: Api-Key ...`.
        timeout_s: longest wait for the connection and for an answer.
    """

    def __init__(
        self,
        url: str,
        space: ActionSpaceName | None = None,
        rename: Mapping[str, str] | None = None,
        prompt: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.url, self.prompt, self.timeout_s = url, prompt, float(timeout_s)
        self.rename = None if rename is None else dict(rename)
        self.metadata: dict[str, Any] = {}
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else {}
        self._space = space
        self._socket: websockets.sync.client.ClientConnection | None = None
        self._closing = ExitStack()

    @property
    def space(self) -> ActionSpaceName:
        """The action space of the answers."""
        space: ActionSpaceName = self._space or self.metadata.get("space", "controls")
        return space

    def reset(self, info: EpisodeInfo) -> None:
        """A new episode: the next message tells the server.

        Raises:
            PolicyUnavailableError: nobody answers.
        """
        self._info, self._first = info, True
        if self._socket is None:
            self._open()

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, A].

        Raises:
            PolicyError: the server's error, or an answer without actions.
            PolicyUnavailableError: the connection is lost, or no answer in time.
        """
        message = to_message(seen, self._info, self._first, self.metadata.get("images") == "chunk")
        if self.prompt is not None:
            message["prompt"] = self.prompt
        self._first = False
        answer = self._ask(self._renamed(message))
        if "actions" not in answer:
            raise PolicyError(
                f"expected actions from {self.url}, got {', '.join(map(str, answer)) or 'nothing'}"
            )
        actions = np.array(answer["actions"], np.float32)
        return actions[: self._info.frames_per_chunk] if actions.ndim == 2 else actions

    def close(self) -> None:
        """Leave. Harmless the second time."""
        self._socket = None
        self._closing.close()

    def _renamed(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.rename is None:
            return message
        if missing := sorted(set(self.rename) - set(message) - {"episode"}):
            raise PolicyError(
                f"rename: expected keys of {', '.join(sorted(message))}, got {', '.join(missing)}"
            )
        return {theirs: message[ours] for ours, theirs in self.rename.items() if ours in message}

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._socket is not None
        try:
            self._socket.send(openpi.pack(message))
            return self._read(self._socket.recv(timeout=self.timeout_s))
        except (TimeoutError, OSError, websockets.exceptions.ConnectionClosed) as error:
            self.close()  # a late answer must never be taken for the next one's
            raise PolicyUnavailableError(
                f"expected an answer from {self.url} in {self.timeout_s:g} s: {error or type(error).__name__}"
            ) from None
        except openpi.OpenPiError as error:
            self.close()
            raise PolicyError(f"{self.url}: {error}") from None

    def _read(self, data: bytes | str) -> dict[str, Any]:
        if isinstance(data, str):
            self.close()
            raise PolicyError(
                f"{self.url} failed: {data.strip().splitlines()[-1] if data.strip() else 'no message'}"
            )
        return openpi.unpack(data)

    def _open(self) -> None:
        local = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        deadline_s = time.monotonic() + self.timeout_s
        try:
            opening = websockets.sync.client.connect(
                self.url,
                additional_headers=self._headers,
                compression=None,
                max_size=openpi.MAX_BYTES,
                open_timeout=min(10.0, self.timeout_s),
                close_timeout=1.0,
                ping_timeout=None,  # a policy that computes on its event loop does not answer pings
                proxy=None if local else True,
            )
            self._socket = self._closing.enter_context(opening)
            self.metadata = self._read(self._socket.recv(timeout=max(0.1, deadline_s - time.monotonic())))
        except (OSError, TimeoutError, websockets.exceptions.WebSocketException) as error:
            self.close()
            raise PolicyUnavailableError(f"expected a policy server at {self.url}: {error}") from None
        except openpi.OpenPiError as error:
            self.close()
            raise PolicyError(f"{self.url}: {error}") from None
