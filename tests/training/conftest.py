"""The made-up data and networks, written once per test process."""

from pathlib import Path

import pytest

from mdtdist.data import PreparedFolder
from tests.training.tiny import write_models, write_prepared


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> PreparedFolder:
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("networks"))
