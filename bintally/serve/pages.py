"""The two pages that a person sees: a photo dropped and counted, and the interface described."""

import secrets
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

Page = tuple[bytes, str, dict[str, str]]
"""Body, content type, headers."""

_HTML = "text/html; charset=utf-8"
_STYLE = """
:root { color-scheme: light dark; --edge: #8886; --bar: #2f6fb7; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem; border-top: 1px solid var(--edge); padding-top: 1rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { overflow: auto; border: 1px solid var(--edge); padding: .6rem }
"""


def front(*, needs_token: bool) -> Page:
    """The page where a photo is dropped; it asks for the token when there is one."""
    nonce = secrets.token_urlsafe(16)
    body = _template().replace("{{nonce}}", nonce).replace("{{token}}", "" if needs_token else "hidden")
    return body.encode(), _HTML, _policy(nonce)


def docs(description: dict[str, Any]) -> Page:
    """The OpenAPI description as a plain page, with nothing fetched from elsewhere."""
    nonce = secrets.token_urlsafe(16)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>bintally: interface</title>"
        f"<meta name=viewport content='width=device-width'><style nonce={nonce}>{_STYLE}</style>",
        f"<h1>bintally {escape(description['info']['version'])}</h1><p>{escape(description['info']['description'])} ",
        "For programs: <a href=openapi.json>openapi.json</a>. To try it: <a href='.'>the page</a>.</p>",
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    parts.append("<h2>Answers</h2>")
    for name, schema in description["components"]["schemas"].items():
        parts.append(f"<h3 id={name}>{name}</h3><p>{escape(schema['description'])}</p>{_fields(schema)}")
    return "".join(parts).encode(), _HTML, _policy(nonce)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}"]
    parts.append(f" {escape(operation.get('description', ''))}</p>")
    if "requestBody" in operation:
        parts.append(
            f"<p>Takes {', '.join(f'<code>{kind}</code>' for kind in operation['requestBody']['content'])}.</p>"
        )
        parts.append(f"<pre>{escape(_example(path))}</pre>")
    parts.append("<table>")
    for status, response in sorted(operation["responses"].items()):
        kinds = ", ".join(response["content"]) if status == "200" else ""
        parts.append(f"<tr><td>{status}<td>{escape(response['description'])}<td><code>{escape(kinds)}</code>")
    return "".join([*parts, "</table>"])


def _example(path: str) -> str:
    if path == "/v1/count":
        return f"curl -F photos=@first.jpg -F photos=@second.jpg http://localhost:8080{path}"
    return f"curl --data-binary @bin.jpg -H 'Content-Type: image/jpeg' http://localhost:8080{path}"


def _fields(schema: dict[str, Any]) -> str:
    rows = []
    for name, one in schema["properties"].items():
        rows.append(
            f"<tr><td><code>{escape(name)}</code><td>{escape(str(one.get('type', '')))}"
            f"<td>{escape(one.get('description', ''))}"
        )
    return f"<table>{''.join(rows)}</table>"


def _policy(nonce: str) -> dict[str, str]:
    return {
        "content-security-policy": (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "cache-control": "no-store",
    }


@cache
def _template() -> str:
    return (Path(__file__).parent / "front.html").read_text(encoding="utf-8")
