"""bintally counts the items in bin photos, says how sure it is, and holds the count against the record."""

import sys

__version__ = "0.1.0"

# OpenVINO and NNCF report their use to Google Analytics when they are imported, from a process forked off this one,
# which inherits sockets and locks. Without this package they do not; nothing of bintally calls home.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
