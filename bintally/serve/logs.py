"""What the server tells on standard error: one JSON object a line."""

import json
import logging
import re
import secrets
import sys
import time
from typing import Any

LOGGER = logging.getLogger("bintally.serve")

_SANE_ID = re.compile(r"[A-Za-z0-9._:+=/-]{1,128}")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, event, and whatever `tell` was given."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        body: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
        }
        body |= getattr(record, "fields", {})
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)
        return json.dumps(body, ensure_ascii=False, default=str)


def start(level: int = logging.INFO) -> None:
    """Sends our log, and the web server's warnings, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, least in (("bintally.serve", level), ("uvicorn", logging.WARNING), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [] if name == "uvicorn.error" else [handler]
        logger.setLevel(least)
        logger.propagate = name == "uvicorn.error"


def tell(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Logs an event with its fields; `error` adds its traceback."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)


def request_id(given: str | None) -> str:
    """The client's own id of a request when it is sane (short, printable, no blanks), else a new one."""
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return secrets.token_hex(8)
