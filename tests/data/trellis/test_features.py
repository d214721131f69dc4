import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist.conditioning.dinov2 import DinoImageEncoder, DinoVisionTransformer
from mdtdist.data.trellis.features import DinoMaps, EfficientNetMaps, mean_features, read_premultiplied
from mdtdist.data.trellis.view_law import feature_cameras
from mdtdist.errors import InputError
from mdtdist.render.cameras import orbit_camera

SHA = "5c" * 32


class _Ramps:
    """Maps whose value is the place in the picture, in [-1, 1] at its outer edges: a coarse and a fine one."""

    image_size = 16

    def __call__(self, pictures):
        return [self._ramp(side).expand(len(pictures), -1, -1, -1) for side in (8, 64)]

    def _ramp(self, side):
        centres = (torch.arange(side) + 0.5) / side * 2 - 1
        return torch.stack(torch.meshgrid(centres, centres, indexing="xy"))[None]


class _Colours:
    """The picture itself."""

    image_size = 8

    def __call__(self, pictures):
        return [pictures]


def _views(folder, cameras, colour=(255, 255, 255, 255)):
    frames = []
    for index, camera in enumerate(cameras):
        path = folder / f"{index:03d}.png"
        Image.new("RGBA", (32, 32), colour).save(path)
        frames.append((path, camera))
    return frames


def test_features_are_sampled_where_the_centre_is_projected_to(tmp_path):
    centers = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.25
    cameras = feature_cameras(SHA, count=7)
    found = mean_features(centers, _views(tmp_path, cameras), _Ramps(), batch=3)
    places = torch.stack([camera.project(centers, 2)[0] - 1 for camera in cameras])
    assert found.shape == (50, 4)
    assert torch.allclose(found, places.mean(0).repeat(1, 2), atol=1e-5)


def test_batches_do_not_matter(tmp_path):
    centers = torch.rand(5, 3) - 0.5
    frames = _views(tmp_path, feature_cameras(SHA, count=5))
    one, all_at_once = (mean_features(centers, frames, _Ramps(), batch=batch) for batch in (1, 8))
    assert torch.allclose(one, all_at_once)


def test_a_centre_outside_a_picture_counts_as_zero_there(tmp_path):
    cameras = [orbit_camera(0.0, 0.0), orbit_camera(np.pi / 2, 0.0)]
    # Corner of the cube: 0.49 / (2 - 0.49) is inside tan 20 deg, 0.45 sideways at the near side is not.
    near = torch.tensor([[0.45, 0.45, 0.0], [0.0, 0.0, 0.0]])
    inside = torch.stack([(camera.project(near, 2)[0] - 1).abs().amax(1) < 1 for camera in cameras])
    found = mean_features(near, _views(tmp_path, cameras, (255, 0, 0, 255)), _Colours())
    assert torch.allclose(found[1], torch.tensor([1.0, 0.0, 0.0, 1.0]))
    far = torch.tensor([[1.2, 0.6, 0.0]])  # 0.6 / 0.8 aside of the first, 1.2 / 1.4 of the second
    assert inside.all() and not mean_features(far, _views(tmp_path, cameras), _Colours()).any()


def test_there_is_no_visibility_test(tmp_path):
    """The front and the back of the same line of sight see the same."""
    frames = _views(tmp_path, [orbit_camera(0.0, 0.0)], (0, 255, 0, 255))
    found = mean_features(torch.tensor([[0.4, 0.0, 0.0], [-0.4, 0.0, 0.0]]), frames, _Colours())
    assert torch.equal(found[0], found[1]) and found[0].tolist() == [0, 1, 0, 1]


def test_pictures_are_premultiplied_after_they_are_resized(tmp_path):
    Image.new("RGBA", (64, 64), (200, 100, 50, 51)).save(tmp_path / "a.png")
    picture = read_premultiplied(tmp_path / "a.png", size=10)
    assert picture.shape == (4, 10, 10)
    expected = [200 / 255 * 0.2, 100 / 255 * 0.2, 50 / 255 * 0.2, 0.2]
    assert picture[:, 5, 5].tolist() == pytest.approx(expected, abs=0.005)  # Pillow's 8 bits at a fifth of alpha
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"b\.png"):
        read_premultiplied(tmp_path / "b.png", size=10)


def _tiny_dino() -> DinoImageEncoder:
    torch.manual_seed(0)
    trunk = DinoVisionTransformer(img_size=28, patch_size=14, embed_dim=8, depth=1, num_heads=2, num_register_tokens=4)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return DinoImageEncoder(trunk.eval(), image_size=42)


def test_dino_maps_are_the_patch_tokens_before_the_norm():
    encoder = _tiny_dino()
    pictures = torch.rand(2, 4, 42, 42)
    (found,) = DinoMaps(encoder)(pictures)
    assert found.shape == (2, 8, 3, 3) and DinoMaps(encoder).image_size == 42
    with torch.no_grad():
        tokens = encoder.trunk((pictures[:, :3] - encoder.mean) / encoder.std)
    assert tokens.shape == (2, 1 + 4 + 9, 8)
    for row in range(3):
        for column in range(3):
            assert torch.equal(found[:, :, row, column], tokens[:, 5 + 3 * row + column])


def test_small_encoder_gives_colours_and_three_strides():
    pictures = torch.rand(1, 4, 224, 224)
    maps = EfficientNetMaps()(pictures)
    assert [tuple(one.shape[1:]) for one in maps] == [(4, 224, 224), (24, 56, 56), (40, 28, 28), (112, 14, 14)]
    assert torch.equal(maps[0], pictures)
