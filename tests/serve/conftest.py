"""A small exported model, and photos for it."""

from pathlib import Path

import pytest

from tests.model_folder import make_model, make_photo


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small exported model of counts 0-5 for photos of 32 × 32. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    make_model(folder)
    return folder


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Twelve photos that differ."""
    return [make_photo(seed) for seed in range(12)]
