"""The messages as one JSON Schema, for clients in other languages: docs/schemas/protocol.json.

    python -m clients.protocol.schema > docs/schemas/protocol.json

Messages are msgpack, so bytes are msgpack's bin type where the schema says a string of format binary.
"""

import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from .lane_map import LaneMap
from .replies import Reply
from .requests import Request
from .version import PROTOCOL_MAJOR, PROTOCOL_MINOR


def protocol_json_schema() -> str:
    """Requests, replies and the map under `$defs`; the document itself matches any message."""
    sides: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
        ("Request", "validation", TypeAdapter(Request)),
        ("Reply", "validation", TypeAdapter(Reply)),
        ("LaneMap", "validation", TypeAdapter(LaneMap)),
    ]
    found, shared = TypeAdapter.json_schemas(sides)
    unions = {name: found[name, mode] for name, mode, _ in sides if name not in shared["$defs"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"roadloop wire protocol {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}",
        "anyOf": [{"$ref": "#/$defs/Request"}, {"$ref": "#/$defs/Reply"}],
        "$defs": dict(sorted((shared["$defs"] | unions).items())),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(protocol_json_schema())
