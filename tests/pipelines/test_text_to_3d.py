"""Text to 3D on tiny networks; the text encoder is a stand-in (CLIP has its own tests)."""

import json
import zlib

import pytest
import torch
from torch import nn

from mdtdist import ImageTo3D, TextTo3D
from mdtdist.errors import InputError
from mdtdist.pipelines.encoders import EncoderSource
from tests.pipelines.test_image_to_3d import assert_same, decided_batch
from tests.pipelines.tiny import COND_CHANNELS, write_pipeline


class HashedWords(nn.Module):
    """Five tokens that depend on the text alone; the empty text has its own."""

    def forward(self, prompts):
        seeds = [zlib.crc32(text.encode()) for text in prompts]
        return torch.stack([torch.randn(5, COND_CHANNELS, generator=torch.Generator().manual_seed(s)) for s in seeds])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_pipeline(tmp_path_factory.mktemp("text"))
    content = json.loads((folder / "pipeline.json").read_text())
    content["name"] = "TrellisTextTo3DPipeline"
    del content["args"]["image_cond_model"]
    content["args"]["text_cond_model"] = "someone/clip"
    (folder / "pipeline.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def pipe(folder, monkeypatch):
    source = EncoderSource(load=lambda device: HashedWords().to(device))
    monkeypatch.setattr("mdtdist.pipelines.text_to_3d.find_text_encoder", lambda config, offline: source)
    return TextTo3D.from_pretrained(folder)


def test_text_decides_and_is_written_down(pipe):
    chair, again, table = (pipe(text, seed=2) for text in ("a chair", "a chair", "a table"))
    assert_same(again, chair, 0)
    assert not torch.equal(table.logits, chair.logits)
    assert chair.prompt == "a chair" and chair.image is None and chair.metadata()["prompt"] == "a chair"


def test_batch_of_texts_equals_one_by_one(pipe):
    prompts = ["a chair", "a green frog"]
    seed, batch = decided_batch(pipe, prompts, steps=1, flows="teacher")
    for text, asset in zip(prompts, batch, strict=True):
        assert_same(asset, pipe(text, seed=seed, steps=1, flows="teacher"))


@pytest.mark.parametrize("low_memory", [False, True])
def test_guidance_leads_away_from_the_empty_text(pipe, folder, low_memory):
    """One guided step of the teacher by hand; the empty text is not a text of zeros."""
    pipe = TextTo3D.from_pretrained(folder, low_memory=low_memory)
    asset = pipe("a chair", flows="teacher", steps=1)
    noise = pipe.structure_noise([torch.Generator().manual_seed(0)])
    cond, null = HashedWords()(["a chair"]), HashedWords()([""])
    network, t = pipe.network("sparse_structure_flow_model"), torch.tensor([1000.0])
    x = noise - (3 * network(noise, t, cond) - 2 * network(noise, t, null))
    torch.testing.assert_close(asset.logits, pipe.decode_structure(x)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", ["", "  ", [], ["a chair", ""], [3]])
def test_empty_texts_are_input_errors(pipe, prompt):
    with pytest.raises(InputError, match="expected a description"):
        pipe(prompt)


def test_models_of_the_other_kind_are_refused(pipe, folder, tmp_path):
    with pytest.raises(InputError, match="makes assets from texts, not images; use TextTo3D"):
        ImageTo3D.from_pretrained(folder)
    with pytest.raises(InputError, match="makes assets from images, not texts; use ImageTo3D"):
        TextTo3D.from_pretrained(write_pipeline(tmp_path))
