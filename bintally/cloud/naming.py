"""Names of jobs and endpoints: when they were made, and that no other has them."""

import re
import secrets
import time

LIMITS = {"training": 63, "tuning": 32, "batch": 63, "model": 63, "endpoint": 63, "config": 63}
"""The most characters that the service takes in a name of each kind."""


def make_name(kind: str, project: str, what: str = "", *, now: float | None = None, token: str = "") -> str:
    """A new name: `project-what-MMDD-hhmmss-xxx`, in UTC.

    Args:
        kind: of `LIMITS`.
        project: how it begins.
        what: such as the recipe; left out where there is no room.
        now: seconds since 1970.
        token: three characters that tell apart what was made in the same second.
    """
    ending = time.strftime("%m%d-%H%M%S", time.gmtime(now)) + "-" + (token or secrets.token_hex(2)[:3])
    room = LIMITS[kind] - len(ending) - 1
    words = "-".join(word for word in (project, cleaned(what)) if word)
    head = words if len(words) <= room else project[:room]
    return f"{head.strip('-')}-{ending}"


def cleaned(text: str) -> str:
    """Text as a name may have it: letters, digits and single hyphens."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")
