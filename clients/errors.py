"""What can go wrong for a caller, besides `ProtocolError`, which is whatever the server answered."""


class RoadloopError(Exception):
    """Base of the errors that are not the server's answer."""


class ConnectionLostError(RoadloopError, ConnectionError):
    """The server cannot be reached, or not again. The message says what was tried."""


class ReplyTimeoutError(RoadloopError, TimeoutError):
    """No reply in time. The socket was dropped, so that a late reply can never be taken for another one's."""
