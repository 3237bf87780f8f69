"""Logs: one line per event, for people or as JSON. Secrets never get here: tokens and tickets are not in any URL."""

import json
import logging
import sys
import time


class JsonFormatter(logging.Formatter):
    """One JSON object per line; whatever is given in `extra` becomes a field."""

    _plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: str(value) for key, value in vars(record).items() if key not in self._plain}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logs(as_json: bool) -> None:
    """Everything to stderr, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    web = logging.getLogger("uvicorn.error")
    web.setLevel(logging.WARNING)
    # uvicorn says this after every handshake that was refused with a proper HTTP answer, which is no error.
    web.addFilter(lambda record: "without completing handshake" not in record.getMessage())
