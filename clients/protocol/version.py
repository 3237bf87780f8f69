"""Protocol version and capabilities. The major version is part of the WebSocket subprotocol name."""

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 2
SUBPROTOCOL = f"roadloop.v{PROTOCOL_MAJOR}.msgpack"

# What this side can do beyond the core; both hellos carry the list and unknown names are ignored.
CAPABILITIES = (
    "conditions",
    "fork",
    "map",
    "newest_frames",
    "png",
    "raw",
    "realtime",
    "set_tier",
    "snapshot",
    "step_many",
    "stream",
)
