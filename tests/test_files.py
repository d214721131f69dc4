"""Writing files and holding folders."""

import multiprocessing
from pathlib import Path

import pytest

from mdtdist.errors import InputError
from mdtdist.files import hold


def _try_to_hold(folder: Path) -> str:
    try:
        with hold(folder):
            return "held"
    except InputError as error:
        return str(error)


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with hold(tmp_path):
            assert f"another process is writing into {tmp_path}" in pool.apply(_try_to_hold, (tmp_path,))
        assert pool.apply(_try_to_hold, (tmp_path,)) == "held"


def test_a_failure_lets_go(tmp_path):
    with pytest.raises(ValueError, match="inside"), hold(tmp_path):
        raise ValueError("inside")
    assert _try_to_hold(tmp_path) == "held"
