"""What a model name means."""

import pytest

from mdtdist.errors import InputError
from mdtdist.pipelines import locate, locate_model, shipped_models


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with the model folder ``mine/model`` and one shipped model ``mini``."""
    for folder in ("mine/model", "assets/mini"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pipeline.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate.resources, "files", lambda package: tmp_path)
    return tmp_path


def test_bare_name_is_a_shipped_model(place):
    assert shipped_models() == {"mini": place / "assets" / "mini"}
    assert locate_model("mini") == place / "assets" / "mini"


@pytest.mark.parametrize("name", ["mine/model", "./mine/model", "{}/mine/model"])
def test_paths_are_found(place, name):
    assert locate_model(name.format(place)).resolve() == place / "mine" / "model"


def test_local_folder_of_the_name_needs_no_prefix_unless_shipped(place):
    (place / "own").mkdir()
    (place / "own" / "pipeline.json").write_text("{}")
    (place / "mini").mkdir()
    assert locate_model("own").resolve() == place / "own"
    assert locate_model("mini") == place / "assets" / "mini"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maxi", r"unknown; expected a shipped model \('mini'\)"),
        ("./gone", "model folder './gone' does not exist"),
        ("/gone/model", "model folder '/gone/model' does not exist"),
        ("~/gone", "model folder '~/gone' does not exist"),
        ("mine/gone", "model folder 'mine/gone' does not exist"),  # "mine" is there, so this is a path
        ("a/b/c", "model folder 'a/b/c' does not exist"),
        ("mine", "no model folder; expected a folder with the file pipeline.json"),
        ("owner/name", "hub id"),
        ("", "unknown"),
    ],
)
def test_wrong_names_are_told_apart(place, name, words):
    with pytest.raises(InputError, match=words):
        locate_model(name)
