"""The two pages: nothing fetched from elsewhere, and a person can drop a photo and see the count."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bintally.serve import pages
from bintally.serve.openapi import describe
from bintally.serve.options import ServeSettings
from tests.serve.stand_in import Server, photo, serving

CHROMIUM = Path("/usr/bin/chromium")


@pytest.mark.parametrize("page", [pages.front(needs_token=False), pages.docs(describe(ServeSettings()))])
def test_nothing_comes_from_elsewhere(page: pages.Page) -> None:
    body, kind, headers = page
    assert kind.startswith("text/html")
    assert not re.search(rb"(src|href)\s*=\s*[\"']?(https?:)?//", body)
    assert "default-src 'none'" in headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", headers["content-security-policy"])
    assert nonce is not None
    assert nonce[1].encode() in body


def test_a_nonce_is_used_once() -> None:
    assert pages.front(needs_token=False)[2] != pages.front(needs_token=False)[2]


def test_the_interface_page_names_every_path_and_status() -> None:
    description = describe(ServeSettings())
    body = pages.docs(description)[0].decode()
    for path, methods in description["paths"].items():
        assert path in body
        for operation in methods.values():
            assert operation["summary"] in body.replace("&#x27;", "'")


def test_the_token_field_shows_only_with_a_token() -> None:
    assert b"<p hidden>" in pages.front(needs_token=False)[0]
    assert b"<p hidden>" not in pages.front(needs_token=True)[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, token="abc") as running:
        yield running


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium")
def test_a_person_drops_a_photo_and_sees_the_count(server: Server, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    (tmp_path / "bin.jpg").write_bytes(photo(200, side=300))
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Security Policy" in line.text else None)
        page.goto(server.url)
        page.set_input_files("#file", tmp_path / "bin.jpg")
        page.wait_for_selector("#message.bad")
        assert "token" in page.inner_text("#message")
        page.fill("#token", "abc")
        page.set_input_files("#file", tmp_path / "bin.jpg")
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#count") == "4"
        assert page.locator("#bars tr").count() == 6
        assert page.locator("#bars tr.best th").inner_text() == "4"
        widths = [page.locator(".bar").nth(place).evaluate("bar => bar.offsetWidth") for place in range(6)]
        assert widths.index(max(widths)) == 4
        page.wait_for_function("document.getElementById('heat').width === 8")
        red = "() => document.getElementById('heat').getContext('2d').getImageData(7, 7, 1, 1).data[3]"
        page.wait_for_function(f"({red})() > 100")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.set_input_files("#file", tmp_path / "bad.jpg")
        page.wait_for_selector("#message.bad")
        assert page.is_hidden("#result")
        # Dropped rather than chosen.
        page.evaluate(
            """async () => {
              const data = new DataTransfer();
              const canvas = document.createElement("canvas");
              canvas.width = canvas.height = 64;
              canvas.getContext("2d").fillRect(0, 0, 64, 64);
              const blob = await new Promise(done => canvas.toBlob(done, "image/jpeg"));
              data.items.add(new File([blob], "dark.jpg", { type: "image/jpeg" }));
              document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
            }"""
        )
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#count") == "0"
        page.goto(f"{server.url}/docs")
        assert "/invocations" in page.inner_text("body")
        browser.close()
        assert problems == []
