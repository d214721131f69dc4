"""CLIP text tokens; the network and the tokenizer are those of ``transformers`` where that is installed."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mdtdist.conditioning.clip import NUM_TEXT_TOKENS, ClipTextEncoder
from mdtdist.errors import InputError


class Recorder(nn.Module):
    """In place of a CLIP text model: embeds the ids it is given and keeps everything it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.calls: list[dict[str, torch.Tensor]] = []

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        self.calls.append(inputs)
        return SimpleNamespace(last_hidden_state=self.table(inputs["input_ids"]))


def test_prompts_are_padded_and_cut_to_77_and_not_masked():
    asked = {}

    def tokenizer(prompts, **options):
        asked.update(options, prompts=prompts)
        ids = torch.ones(len(prompts), options["max_length"], dtype=torch.long)
        return {"input_ids": ids, "attention_mask": torch.zeros_like(ids)}

    network = Recorder()
    tokens = ClipTextEncoder(network, tokenizer)(("a chair", ""))
    assert asked["prompts"] == ["a chair", ""] and asked["truncation"] is True and asked["padding"] == "max_length"
    assert tokens.shape == (2, NUM_TEXT_TOKENS, 4) and NUM_TEXT_TOKENS == 77
    assert [set(call) for call in network.calls] == [{"input_ids"}]
    assert not tokens.requires_grad


def test_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"pip install 'mdtdist\[text\]'"):
        ClipTextEncoder.load("openai/clip-vit-large-patch14")


def test_real_network_and_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["<|startoftext|>", "<|endoftext|>", *"abchir", *(f"{c}</w>" for c in "abchir")]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    network = transformers.CLIPTextModel(config).eval()
    network.save_pretrained(tmp_path)
    encoder = ClipTextEncoder.load(str(tmp_path), offline=True)
    tokens = encoder(["A  Chair", "a chair " * 50])
    assert tokens.shape == (2, 77, 16)
    ids = [0, words.index("a</w>"), *(words.index(c) for c in "chai"), words.index("r</w>"), 1]
    expected = network(torch.tensor([ids + [1] * (77 - len(ids))])).last_hidden_state
    torch.testing.assert_close(tokens[:1], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="cannot be loaded"):
        ClipTextEncoder.load(str(tmp_path / "gone"), offline=True)
