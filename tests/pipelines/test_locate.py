"""What a model name means, and how what is on the hub comes to this disk."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest

from mdtdist.errors import InputError
from mdtdist.pipelines import PipelineConfig, locate, resolve_model, resolve_student, shipped_models
from mdtdist.pipelines.hub import HubId
from tests.pipelines.fake_hub import COMMIT, FakeHub
from tests.pipelines.tiny import write_pipeline

MINIMAL = {
    "args": {
        "models": {},
        "sparse_structure_sampler": {},
        "slat_sampler": {},
        "slat_normalization": {"mean": [0], "std": [1]},
        "image_cond_model": "dinov2_vitl14_reg",
    }
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with the model folder ``mine/model`` and one shipped model ``mini``."""
    for folder in ("mine/model", "assets/mini"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pipeline.json").write_text(json.dumps(MINIMAL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "resources", SimpleNamespace(files=lambda package: tmp_path))
    return tmp_path


@pytest.fixture
def hub(place, monkeypatch):
    """``owner/model`` and ``owner/text`` on the hub; the second borrows the first one's decoders."""
    hub = FakeHub(place)
    hub.install(monkeypatch)
    folder = write_pipeline(hub.remote / "owner/model", students=False)
    content = json.loads((folder / "pipeline.json").read_text())
    args = content["args"]
    other = hub.remote / "owner/text"
    (other / "ckpts").mkdir(parents=True)
    for role in ("sparse_structure_flow_model", "slat_flow_model"):
        for suffix in (".json", ".safetensors"):
            shutil.copy(folder / "ckpts" / f"{role}{suffix}", other / "ckpts")
    for role in ("sparse_structure_decoder", "slat_decoder_gs"):
        args["models"][role] = f"owner/model/ckpts/{role}"
    args.pop("image_cond_model")
    args["text_cond_model"] = "openai/clip-vit-large-patch14"
    (other / "pipeline.json").write_text(json.dumps(content | {"name": "TrellisTextTo3DPipeline"}))
    (folder / "README.md").write_text("not wanted")
    return hub


def test_bare_name_is_a_shipped_model(place):
    assert shipped_models() == {"mini": place / "assets" / "mini"}
    assert resolve_model("mini") == place / "assets" / "mini"


@pytest.mark.parametrize("name", ["mine/model", "./mine/model", "{}/mine/model"])
def test_paths_are_found(place, name):
    assert resolve_model(name.format(place)).resolve() == place / "mine" / "model"


def test_local_folder_of_the_name_needs_no_prefix_unless_shipped(place):
    for name in ("own", "mini"):
        (place / name).mkdir()
        (place / name / "pipeline.json").write_text(json.dumps(MINIMAL))
    assert resolve_model("own").resolve() == place / "own"
    assert resolve_model("mini") == place / "assets" / "mini"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maxi", r"unknown; expected a shipped model \('mini'\)"),
        ("./gone", "model folder './gone' does not exist"),
        ("/gone/model", "model folder '/gone/model' does not exist"),
        ("~/gone", "model folder '~/gone' does not exist"),
        ("mine/gone", "model folder 'mine/gone' does not exist"),  # "mine" is there, so this is a path
        ("a/b/c", "model folder 'a/b/c' does not exist"),
        ("mine", "a folder but no model folder; expected a folder with the file pipeline.json"),
        ("mine/model/pipeline.json", "a file but no model folder"),
        ("", "unknown"),
    ],
)
def test_wrong_names_are_told_apart(place, name, words):
    with pytest.raises(InputError, match=words):
        resolve_model(name)


@pytest.mark.parametrize(
    ("text", "repo", "revision", "path"),
    [
        ("owner/name", "owner/name", None, ""),
        ("owner/name@v1.0", "owner/name", "v1.0", ""),
        ("owner/TRELLIS-image-large/ckpts/ss_dec", "owner/TRELLIS-image-large", None, "ckpts/ss_dec"),
        ("owner/name@abc/ckpts/x.safetensors", "owner/name", "abc", "ckpts/x.safetensors"),
    ],
)
def test_hub_ids_are_read_and_written(text, repo, revision, path):
    source = HubId.parse(text)
    assert source == HubId(repo=repo, revision=revision, path=path) and str(source) == text


@pytest.mark.parametrize("text", ["name", "/a/b", "a//b", "a/b/../c", "../a", "a/.git", "a b/c", "a/b@", "http://a/b"])
def test_other_texts_are_no_hub_ids(text):
    assert HubId.parse(text) is None


def test_a_model_on_the_hub_is_downloaded_with_what_it_names(hub):
    folder = resolve_model("owner/model")
    assert PipelineConfig.read(folder).flows == ("teacher",)
    assert not (folder / "README.md").exists()
    # The description first, then the files of the same commit.
    assert hub.calls == [("owner/model", None, False), ("owner/model", COMMIT, False)]


@pytest.mark.parametrize(("name", "revision"), [("owner/model@main", None), ("owner/model", "main")])
def test_a_revision_is_passed_on(hub, name, revision):
    resolve_model(name, revision=revision)
    assert hub.calls[0] == ("owner/model", "main", False)


def test_networks_of_another_repository_come_too_and_reading_needs_no_network(hub):
    folder = resolve_model("owner/text@main")
    hub.is_reachable = False
    config = PipelineConfig.read(folder)
    assert config.text_cond_model == "openai/clip-vit-large-patch14" and config.image_cond_model == ""
    decoder = config.files("slat_decoder_gs").weights
    assert decoder.is_file() and decoder.is_relative_to(hub.cache / "owner/model")
    assert config.files("slat_flow_model").weights.is_relative_to(folder)


def test_a_local_folder_may_refer_to_the_hub(hub, place):
    local = place / "downloaded"
    (hub.remote / "owner/text").rename(local)
    with pytest.raises(InputError, match="slat_decoder_gs|sparse_structure_decoder: owner/model is not"):
        PipelineConfig.read(local)
    assert resolve_model("downloaded").resolve() == local
    assert PipelineConfig.read(local).files("slat_decoder_gs").weights.is_file()
    assert {call[0] for call in hub.calls} == {"owner/model"}


def test_a_missing_local_file_is_a_path_and_never_looked_up(hub, place):
    folder = write_pipeline(place / "broken", students=False)
    content = json.loads((folder / "pipeline.json").read_text())
    content["args"]["models"]["slat_flow_model"] = "ckpts/old/flow"
    (folder / "pipeline.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="names ckpts/old/flow.json, which is missing"):
        PipelineConfig.read(resolve_model(folder))
    assert hub.calls == []


def test_offline_asks_the_cache_only(hub):
    with pytest.raises(InputError, match="owner/text is not, or not whole, in the local cache; run once without"):
        resolve_model("owner/text", offline=True)
    resolve_model("owner/text")
    hub.calls.clear()
    hub.is_reachable = False
    PipelineConfig.read(resolve_model("owner/text", offline=True))
    assert hub.calls and all(offline for _, _, offline in hub.calls)


@pytest.mark.parametrize(
    ("name", "options", "failure", "words"),
    [
        ("owner/gone", {}, None, "no 'owner/gone' on this disk, and as a hub id: the hub has no repository"),
        ("owner/model@v9", {}, None, "owner/model has no commit, tag or branch 'v9'"),
        ("owner/model", {}, "GatedRepoError", "lets only some accounts read owner/model"),
        ("owner/model", {}, "LocalEntryNotFoundError", "the hub could not be reached"),
        ("owner/model", {}, "HfHubHTTPError", "could not be downloaded: as the hub says"),
        ("owner/model@a", {"revision": "b"}, None, "'owner/model@a' and the revision 'b' disagree"),
        ("mini", {"revision": "main"}, None, "only goes with a hub id; 'mini' is none"),
        ("owner/model@main/ckpts/x", {}, None, "is a file on the hub; expected the id of a repository, owner/model"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, name, options, failure, words):
    hub.failure = failure
    with pytest.raises(InputError, match=words):
        resolve_model(name, **options)


def test_a_repository_without_description_is_no_model(hub):
    (hub.remote / "owner/model/pipeline.json").unlink()
    with pytest.raises(InputError, match="owner/model on the hub has no pipeline.json: it is no model"):
        resolve_model("owner/model")


def test_the_extra_is_named_where_the_package_is_missing(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"no 'owner/name' on this disk.*pip install 'mdtdist\[hub\]'"):
        resolve_model("owner/name")


def test_students_are_files_folders_or_on_the_hub(hub, place):
    assert resolve_student("mine/model").resolve() == place / "mine/model"
    for name in ("./gone.safetensors", "gone.pt", "runs/gone.safetensors"):
        with pytest.raises(InputError, match=f"the student '{name}' does not exist"):
            resolve_student(name)
    folder = resolve_student("owner/text")
    assert (folder / "ckpts/slat_flow_model.safetensors").is_file()
    file = resolve_student("owner/model@main/ckpts/slat_flow_model.safetensors")
    assert file.is_file() and file.with_suffix(".json").exists() is False


def test_the_real_package_finds_a_model_in_its_cache(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    cached = tmp_path / "models--owner--model"
    folder = write_pipeline(cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("owner/model", f"owner/model@{COMMIT}"):
        assert resolve_model(name, offline=True).resolve() == folder.resolve()
    with pytest.raises(InputError, match="owner/model@v9 is not, or not whole, in the local cache"):
        resolve_model("owner/model@v9", offline=True)
    with pytest.raises(InputError, match="owner/gone is not, or not whole, in the local cache"):
        resolve_model("owner/gone", offline=True)
