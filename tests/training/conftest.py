"""The made-up data and networks, written once per test process."""

from pathlib import Path

import pytest

from mdtdist.data import PreparedFolder
from tests.pipelines.official import write_official
from tests.training.official_data import write_data
from tests.training.tiny import write_models, write_prepared


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> PreparedFolder:
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def official_model(tmp_path_factory) -> Path:
    """A teacher in the official layout."""
    return write_official(tmp_path_factory.mktemp("official") / "model", with_encoder=True)


@pytest.fixture(scope="session")
def official_data(tmp_path_factory) -> Path:
    """Data for it in TRELLIS's layout; tests that change it write their own."""
    return write_data(tmp_path_factory.mktemp("official") / "data")
