"""What every test may use, and the rule that on CI a skipped test is a failure."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

ABID = os.environ.get("BINTALLY_ABID")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deselect-real", action="store_true", help="leave out the tests that need real photos")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deselect-real"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("real")])
        items[:] = [item for item in items if not item.get_closest_marker("real")]
    for item in items:
        if item.get_closest_marker("real") and not ABID:
            item.add_marker(pytest.mark.skip(reason="BINTALLY_ABID does not name a folder of real photos"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    strict = os.environ.get("BINTALLY_NO_SKIP") and not item.get_closest_marker("gpu")
    if report.skipped and strict and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def abid() -> Path:
    """A folder of real photos laid out like the public dataset. Only for tests marked `real`."""
    assert ABID, "mark the test `real`"
    return Path(ABID)
