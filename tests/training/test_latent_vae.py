"""The structured-latent VAE: gradients, its normalised input, and its losses."""

import pytest
import torch

from mdtdist.data.latents import structured_latents
from mdtdist.errors import InputError
from mdtdist.models import load
from mdtdist.representations import SH_C0, Gaussians
from mdtdist.sparse import SparseTensor, pack_coords
from mdtdist.training.latent_vae import LatentVAEConfig, LatentVAETask
from mdtdist.training.structured_latents import LatentNormalization
from tests.training.tiny import DECODERS, ENCODERS, FEATURES, randomized
from tests.training.toy import draw


@pytest.fixture
def task(prepared) -> LatentVAETask:
    config = LatentVAEConfig(data=prepared.path, encoder=ENCODERS["latent"][1], decoder=DECODERS["latent"][1])
    task = LatentVAETask(config, seed=0, device="cpu")
    for seed, name in enumerate(("encoder", "decoder")):
        table = {"encoder": ENCODERS, "decoder": DECODERS}[name]
        task.module[name].load_state_dict(randomized(*table["latent"], seed=seed).state_dict())
    return task


def test_one_step_gives_every_parameter_a_finite_gradient(task):
    losses = task.loss(draw(0, 2))
    losses["loss"].backward()
    for name, parameter in task.module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith(("to_qkv.bias", "qkv.bias")):  # the bias of a key changes no attention
            assert parameter.grad.abs().max() > 0, name


def test_loss_is_the_picture_and_the_divergence(task):
    losses = task.loss(draw(0, 2))
    image = losses["loss"] - task.config.kl_weight * losses["kl"]
    plain = losses["l1"] + 0.2 * (1 - losses["ssim"]) + 0.5 * losses["alpha_l1"]
    assert image > plain and losses["kl"] > 0  # the rest keeps Gaussians small and opaque
    assert torch.equal(losses["loss"], task.loss(draw(0, 2))["loss"])


def test_truth_is_composed_over_the_background(task, prepared):
    sha = prepared.ids("train")[0]
    background = torch.tensor([0.1, 0.2, 0.9])
    scene = task.module["decoder"](SparseTensor(torch.zeros(1, 4), pack_coords([torch.zeros(1, 3)])))[0]
    truth, alpha, picture, coverage = task._compare(scene, task.views[sha][0], background)
    assert 0 < alpha.mean() < 1 and set(alpha.unique().tolist()) == {0.0, 1.0}
    inside = alpha == 1
    torch.testing.assert_close(truth[:, inside].mean(1), torch.tensor([240.0, 130.0, 20.0]) / 255)
    torch.testing.assert_close(truth[:, ~inside].mean(1), background)
    empty = coverage == 0
    torch.testing.assert_close(picture[:, empty].mean(1), background)


def test_colour_is_compared_with_what_visible_views_show(task):
    """Two voxels of two Gaussians each: the first shows its colour on average, the second is 0.25 off."""
    task.mean, task.std = torch.full((FEATURES,), 0.2), torch.full((FEATURES,), 2.0)
    rgb = torch.tensor([[0.5, 0.25, 0.75], [0.5, 0.5, 0.5]])
    feats = torch.cat([rgb, torch.ones(2, 1), torch.zeros(2, FEATURES - 4)], dim=1)
    x = SparseTensor((feats - task.mean) / task.std, pack_coords([torch.tensor([[0, 0, 0], [0, 0, 1]])]))
    shown = torch.stack([rgb[0] - 0.1, rgb[0] + 0.1, rgb[1] + 0.25, rgb[1] + 0.25])
    scene = Gaussians(
        means=torch.zeros(4, 3),
        scales=torch.ones(4, 3),
        rotations=torch.eye(4)[:1].expand(4, 4),
        opacities=torch.ones(4),
        sh=((shown - 0.5) / SH_C0)[:, None],
    )
    torch.testing.assert_close(task._color_loss(x, [scene]), torch.tensor(0.125))


def test_exported_encoder_takes_features_as_they_are_prepared(task, prepared, tmp_path):
    with torch.no_grad():
        expected = task.module["encoder"](task._voxel_features(prepared.ids("val")))[0]
        task.export(tmp_path)
        coords, feats = zip(*(prepared.features(sha) for sha in prepared.ids("val")), strict=True)
        mean, _ = load(tmp_path / "slat_enc")(SparseTensor(torch.cat(feats).float(), pack_coords(list(coords))))
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "slat_dec_gs.safetensors").is_file()


def test_evaluation_writes_pictures(task, tmp_path):
    with torch.no_grad():
        figures = task.evaluate(tmp_path, 7)
    assert set(figures) == {"psnr", "ssim", "latent_std"} and 0 < figures["psnr"] < 60
    assert (tmp_path / "samples_0000007.png").is_file()


def test_statistics_are_averages_over_objects(tmp_path):
    (tmp_path / "enc.safetensors").write_bytes(b"weights")
    generator = torch.Generator().manual_seed(0)
    sizes = (400, 4000)
    items = [(3 + 2 * torch.randn(2, n, FEATURES, generator=generator), torch.zeros(n, 3).int()) for n in sizes]
    items[1] = (items[1][0] + 4, items[1][1])
    fitted = LatentNormalization.load_or_fit(tmp_path / "enc", items)
    # Means 3 and 7 with equal weights, whatever the sizes: mean 5, variance 4 + 2^2.
    torch.testing.assert_close(fitted.mean, torch.full((FEATURES,), 5.0), atol=0.3, rtol=0)
    torch.testing.assert_close(fitted.std, torch.full((FEATURES,), 8**0.5), atol=0.3, rtol=0)
    feats = items[0][0]
    torch.testing.assert_close(fitted.denormalize(fitted.normalize(feats)), feats)
    torch.testing.assert_close(fitted.normalize(fitted.mean[None] + fitted.std[None]), torch.ones(1, FEATURES))


def test_statistics_are_kept_until_the_encoder_changes(tmp_path):
    weights = tmp_path / "enc.safetensors"
    items = [(torch.randn(2, 50, 2), torch.zeros(50, 3).int())]
    weights.write_bytes(b"one")
    first = LatentNormalization.load_or_fit(tmp_path / "enc", items)
    kept = LatentNormalization.load_or_fit(tmp_path / "enc", [(torch.randn(2, 50, 2), items[0][1])])
    assert torch.equal(first.mean, kept.mean) and torch.equal(first.std, kept.std)
    weights.write_bytes(b"two")
    again = LatentNormalization.load_or_fit(tmp_path / "enc", [(items[0][0] + 1, items[0][1])])
    torch.testing.assert_close(again.mean, first.mean + 1)


def test_latents_are_encoded_object_by_object_and_kept(prepared, networks):
    ids = prepared.ids("train")
    first, again = (structured_latents(prepared, ids, networks / "latent" / "enc", device="cpu") for _ in range(2))
    encoder = load(networks / "latent" / "enc")
    for sha, (feats, coords), (kept, _) in zip(ids, first, again, strict=True):
        indices, tokens = prepared.features(sha)
        with torch.no_grad():
            mean, _ = encoder(SparseTensor(tokens.float(), pack_coords([indices])))
            flipped = torch.cat([31 - indices[:, :1], indices[:, 1:]], dim=1)
            mean_mirrored, _ = encoder(SparseTensor(tokens.float(), pack_coords([flipped])))
        assert torch.equal(coords, indices) and torch.equal(feats, kept)
        torch.testing.assert_close(feats, torch.stack([mean, mean_mirrored]), atol=2e-3, rtol=2e-3)  # kept in float16


def test_large_assets_and_condition_views_can_be_left_out(prepared):
    networks = {"encoder": ENCODERS["latent"][1], "decoder": DECODERS["latent"][1]}
    sizes = sorted(len(prepared.voxels(sha)) for split in ("train", "val") for sha in prepared.ids(split))
    task = LatentVAETask(
        LatentVAEConfig(data=prepared.path, max_voxels=sizes[-1], views="around", **networks), seed=0, device="cpu"
    )
    whole = {sha: prepared.views(sha) for sha in task.views}
    assert {len(views) for views in task.views.values()} == {sum(not v.is_cond for v in next(iter(whole.values())))}
    with pytest.raises(InputError, match="max_voxels is 0: no asset of split 'train'"):
        LatentVAETask(LatentVAEConfig(data=prepared.path, max_voxels=0, **networks), seed=0, device="cpu")


def test_a_step_in_half_precision_is_finite(task):
    with torch.autocast("cpu", torch.bfloat16):
        losses = task.loss(draw(0, 2))
    losses["loss"].backward()
    assert losses["loss"].isfinite() and task._voxel_features(task.ids["train"][:2]).feats.dtype == torch.float32
