"""Sets a report as PDF with Typst: the document's blocks as JSON, its pictures as files, one template."""

import base64
import binascii
import dataclasses
import hashlib
import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from bintally import __version__, files
from bintally.errors import MissingExtraError
from bintally.report.document import Document

TEMPLATE = "report.typ"

_KINDS = {"image/svg+xml": "svg", "image/jpeg": "jpg", "image/png": "png"}


def write_pdf(document: Document, to: Path) -> None:
    """Writes a document as PDF, tagged, with bookmarks. Needs neither a network nor anything of the system.

    Raises:
        MissingExtraError: Typst is not installed.
        DiskFullError: there is no room.
    """
    files.write_bytes(to, pdf_of(document))


def pdf_of(document: Document) -> bytes:
    """The bytes of a document's PDF.

    Raises:
        MissingExtraError: Typst is not installed.
    """
    try:
        import typst
    except ModuleNotFoundError as error:
        raise MissingExtraError("typst", "pdf") from error
    with tempfile.TemporaryDirectory(prefix="bintally-report-") as name:
        folder = Path(name)
        body = json.dumps(_plain(document, folder) | {"version": __version__}, ensure_ascii=False)
        (folder / "document.json").write_text(body, encoding="utf-8")
        template = (resources.files("bintally.report") / "templates" / TEMPLATE).read_bytes()
        (folder / TEMPLATE).write_bytes(template)
        made: bytes = typst.compile(str(folder / TEMPLATE), root=str(folder))
    return made


def _plain(value: Any, folder: Path) -> Any:
    """Blocks as JSON values; a picture becomes a file in `folder` and its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: _plain(getattr(value, one.name), folder) for one in dataclasses.fields(value)}
        kind = getattr(value, "kind", None)
        return fields | ({"kind": kind} if kind else {})
    if isinstance(value, tuple | list):
        return [_plain(one, folder) for one in value]
    if isinstance(value, str) and value.startswith("data:"):
        return _picture(value, folder)
    return value


def _picture(uri: str, folder: Path) -> str:
    head, _, body = uri.partition(",")
    kind = _KINDS.get(head.removeprefix("data:").removesuffix(";base64"))
    if kind is None or not head.endswith(";base64"):
        return ""  # the placeholder of a photo that is not at hand: the template draws its own
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error:
        return ""
    name = f"{hashlib.sha256(data).hexdigest()[:24]}.{kind}"
    if not (folder / name).exists():
        (folder / name).write_bytes(data)
    return name
