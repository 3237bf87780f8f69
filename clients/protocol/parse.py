"""From bytes to typed messages, with one exception type for everything that is wrong with them."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from .codec import MAX_MESSAGE_BYTES, CodecError, unpack
from .errors import ErrorCode, ProtocolError
from .replies import Reply
from .requests import Request

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Request)
_REPLIES: TypeAdapter[Reply] = TypeAdapter(Reply)
MAX_REPLY_BYTES = 256 << 20


def parse_request(data: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> Request:
    """The request in one binary message.

    Raises:
        ProtocolError: BAD_MESSAGE; `details.id` is the request's id where it could be read.
    """
    request: Request = _parse(_REQUESTS, data, max_bytes)
    return request


def parse_reply(data: bytes, max_bytes: int = MAX_REPLY_BYTES) -> Reply:
    """The reply in one binary message.

    Raises:
        ProtocolError: BAD_MESSAGE.
    """
    reply: Reply = _parse(_REPLIES, data, max_bytes)
    return reply


def _parse(adapter: TypeAdapter[Any], data: bytes, max_bytes: int) -> Any:
    try:
        message = unpack(data, max_bytes)
    except CodecError as error:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, str(error)) from None
    try:
        return adapter.validate_python(message)
    except ValidationError as error:
        raise _bad_message(message, error) from None


def _bad_message(message: dict[str, Any], error: ValidationError) -> ProtocolError:
    """Name the first wrong field; never echo the sender's bytes at length."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    code = ErrorCode.BAD_ACTION if first["loc"] and first["loc"][-1] == "actions" else ErrorCode.BAD_MESSAGE
    number = message.get("id")
    details = {"id": number} if isinstance(number, int) and 0 <= number < 1 << 53 else {}
    return ProtocolError(code, f"{where}: {first['msg']}"[:500], details=details)
