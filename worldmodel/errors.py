"""What the world refuses. Every message reads *expected X, got Y*."""


class EngineError(Exception):
    """Something that the engine refuses or that failed; the session is as it was before the call."""


class ActionError(EngineError, ValueError):
    """An action of the wrong shape, dtype or range. The message reads *expected X, got Y*."""


class UnknownSessionError(EngineError, KeyError):
    """A session id that is not open."""
