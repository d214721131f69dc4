import math

import numpy as np
import pytest

from mdtdist.data.generated import FAMILIES, generate_object
from mdtdist.data.generated.parts.bodies import EYE
from mdtdist.data.generated.solids import face_areas
from mdtdist.data.normalize import fit_to_cube
from mdtdist.data.voxelize import voxelize_surface
from mdtdist.errors import InputError
from mdtdist.render.cameras import orbit_camera

_MAX_FACES = 6000  # observed 5500 over 600 seeds


def _model(name, seed=0):
    return fit_to_cube(FAMILIES[name](np.random.default_rng(seed)))


def _same(first, second):
    arrays = ("vertices", "faces", "uv", "face_material")
    if not all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays):
        return False
    return all(
        one.color == other.color and np.array_equal(one.texture, other.texture)
        for one, other in zip(first.materials, second.materials, strict=True)
    )


def test_a_seed_always_gives_the_same_object():
    first, again = generate_object(7), generate_object(7)
    assert first.name == again.name
    assert _same(first.triangles, again.triangles)


def test_seeds_give_many_families_that_fill_the_cube():
    objects = [generate_object(seed) for seed in range(40)]
    assert len({item.name for item in objects}) > 20
    for item in objects:
        assert item.name in FAMILIES
        extent = np.ptp(item.triangles.vertices[item.triangles.faces.reshape(-1)], axis=0)
        assert extent.max() == pytest.approx(1, abs=1e-5)
        assert np.abs(item.triangles.vertices[item.triangles.faces.reshape(-1)]).max() < 0.5


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match="is -1; expected 0 or a positive integer"):
        generate_object(-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_makes_sound_models(name):
    for seed in range(2):
        model = _model(name, seed)
        assert 30 < len(model.faces) < _MAX_FACES
        assert np.isfinite(model.vertices).all() and np.isfinite(model.uv).all()
        assert model.faces.max() < len(model.vertices) == len(model.uv) == len(model.vertex_colors)
        assert model.face_material.max() == len(model.materials) - 1
        assert (face_areas(model.vertices, model.faces) < 1e-9).mean() < 0.002
        assert len(voxelize_surface(model, resolution=32)) > 50


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_seen(name):
    pytest.importorskip("numba")
    from mdtdist.render.triangle_rasterizer import TriangleRasterizer

    camera = orbit_camera(math.radians(-60), math.radians(20), radius=2.3)
    picture = TriangleRasterizer(_model(name)).render(camera, size=64, supersampling=1)
    assert (picture.rgba[..., 3] > 0).sum() > 60


@pytest.mark.parametrize("name", ["chair", "office chair", "sofa", "deck chair", "bed", "toilet"])
def test_backs_are_behind(name):
    for seed in range(4):
        model = _model(name, seed)
        points = model.vertices[model.faces.reshape(-1)]
        top = points[points[:, 2] > points[:, 2].max() - 0.05]
        assert np.median(top[:, 1]) > 0, seed


@pytest.mark.parametrize("name", ["person", "animal", "bird", "fish", "stuffed animal", "robot"])
def test_eyes_look_to_the_front(name):
    for seed in range(3):
        model = _model(name, seed)
        index = next(place for place, material in enumerate(model.materials) if material.color == EYE)
        eyes = model.vertices[model.faces[model.face_material == index].reshape(-1)]
        head = model.vertices[model.faces.reshape(-1)]
        head = head[np.abs(head[:, 2] - eyes[:, 2].mean()) < 0.03]
        assert eyes[:, 1].mean() < head[:, 1].mean(), seed


def test_symmetric_families_are_symmetric():
    for name in ("car", "plane", "stuffed animal", "bathtub"):
        x = _model(name, 1).vertices[:, 0]
        assert x.max() == pytest.approx(-x.min(), abs=0.03), name
