"""Protocol version and capabilities. The major version is part of the WebSocket subprotocol name."""

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0
SUBPROTOCOL = f"roadloop.v{PROTOCOL_MAJOR}.msgpack"

# What this side can do beyond the core; both hellos carry the list and unknown names are ignored.
CAPABILITIES = ("fork", "png", "raw", "realtime", "snapshot", "step_many")
