"""What every test may use, and the rule that on CI a skipped test is a failure."""

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ABID = os.environ.get("BINTALLY_ABID")

# What a person's shell or a CI service sets must not decide how tests end: settings, clouds, proxies, colours, widths.
_OURS = {"BINTALLY_ABID", "BINTALLY_NO_SKIP", "BINTALLY_DEBUG"}
_FAMILIES = ("AWS_", "BINTALLY_", "MLFLOW_", "SM_", "HF_", "OMPI_", "SLURM_")
_SINGLE = {"http_proxy", "https_proxy", "all_proxy", "force_color", "py_colors", "clicolor_force", "github_actions"}
_SINGLE |= {"columns", "lines", "node_rank", "local_rank", "master_addr", "master_port", "world_size"}
for _name in set(os.environ) - _OURS:
    if _name.startswith(_FAMILIES) or _name.lower() in _SINGLE:
        del os.environ[_name]

# Nor may what bintally keeps for later runs, of a person's trainings or of an earlier test run's; and home stays as it is.
_CACHE = tempfile.TemporaryDirectory(prefix="bintally-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

# The same examples on every machine, however slow it is; nothing is written beside the code.
settings.register_profile(
    "house", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


def pytest_unconfigure() -> None:
    _CACHE.cleanup()


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
