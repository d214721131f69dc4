"""The recorded cases notice each of the known ways to get these networks slightly wrong."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mdtdist.conditioning.dinov2 import DinoVisionTransformer
from mdtdist.evaluation.encoders import inception, lpips
from tests.parity.replay import replay

DATA = Path(__file__).parent / "data"


def differs(case: str) -> bool:
    return replay(DATA, case).status == "differs"


def test_average_pool_that_counts_the_padding_is_noticed(monkeypatch):
    monkeypatch.setitem(inception._POOLS, "average", lambda x: F.avg_pool2d(x, 3, stride=1, padding=1))
    assert differs("eval_inception")


def test_average_pool_in_the_last_block_is_noticed(monkeypatch):
    monkeypatch.setitem(inception.MIXED_BLOCKS, "Mixed_7c", inception._mixed_e("average"))
    assert differs("eval_inception")


def test_other_eps_of_the_batch_norms_is_noticed(monkeypatch):
    norm = torch.nn.BatchNorm2d
    monkeypatch.setattr(torch.nn, "BatchNorm2d", lambda channels, eps: norm(channels, eps=1e-5))
    assert differs("eval_inception")


def test_half_pixel_resize_is_noticed(monkeypatch):
    resize = inception.CONVENTIONS["pytorch_fid"]
    monkeypatch.setitem(inception.CONVENTIONS, "fidelity", lambda x: resize(x) * 127.5 / 128 - 0.5 / 128)
    assert differs("eval_inception")


def test_antialias_is_noticed(monkeypatch):
    monkeypatch.setitem(inception.CONVENTIONS, "pytorch_fid", inception.CONVENTIONS["clean"])
    assert differs("eval_inception")


@pytest.mark.parametrize("case", ["eval_lpips_alex", "eval_lpips_vgg"])
def test_missing_normalisation_is_noticed(monkeypatch, case):
    monkeypatch.setattr(lpips, "_unit_length", lambda features: features)
    assert differs(case)


def test_position_table_without_the_added_tenth_is_noticed(monkeypatch):
    positions = DinoVisionTransformer.positions

    def plain(self, height, width):
        self.interpolate_offset = 0.0
        return positions(self, height, width)

    monkeypatch.setattr(DinoVisionTransformer, "positions", plain)
    assert differs("eval_dinov2")
