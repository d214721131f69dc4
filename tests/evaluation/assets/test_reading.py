"""Files as other systems write them, laid out byte by byte here, read into object space."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import RotationChoice, as_matrix, axes_rotation
from mdtdist.evaluation.assets.ply_header import read_ply_header
from mdtdist.evaluation.assets.reading import Asset3D, asset_of_gaussians, read_asset, turn_asset
from mdtdist.export.glb import write_glb
from mdtdist.export.obj import write_obj
from mdtdist.export.ply import write_ply
from mdtdist.render.gaussian_projection import covariance_3d
from mdtdist.representations import SH_C0, Gaussians, Mesh

LGM_FIELDS = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
TRELLIS_FIELDS = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()

# Object space: a chair-like L. A seat slab, a back at +Y (so that the front is -Y) that goes up to the top.
SEAT = [(x, y, -0.25) for x in (-0.25, 0.0, 0.25) for y in (-0.25, 0.0, 0.25)]
BACK = [(x, 0.25, z) for x in (-0.25, 0.0, 0.25) for z in (0.0, 0.5, 0.75)]
CHAIR = np.array(SEAT + BACK) - [0, 0, 0.25]


def _write_splats(path: Path, fields: list[str], columns: dict[str, np.ndarray], *, count: int | None = None) -> Path:
    num = len(columns["x"])
    rows = np.stack([np.broadcast_to(columns.get(name, 0.0), num) for name in fields], 1).astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {num if count is None else count}"]
    lines += [f"property float {name}" for name in fields] + ["end_header", ""]
    path.write_bytes("\n".join(lines).encode() + rows.tobytes())
    return path


def _splat_columns(positions: np.ndarray, **changes: object) -> dict[str, np.ndarray]:
    columns: dict[str, object] = dict(zip("xyz", np.asarray(positions).T, strict=True))
    columns |= {"f_dc_0": 1.0, "f_dc_1": 0.0, "f_dc_2": -1.0, "opacity": 2.0}
    columns |= {f"scale_{i}": math.log(s) for i, s in enumerate((0.1, 0.02, 0.01))}
    columns |= {f"rot_{i}": q for i, q in enumerate((1.0, 0.0, 0.0, 0.0))}
    return {name: np.asarray(value, dtype=np.float64) for name, value in (columns | changes).items()}


def _fitted(points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low).max()


def _means(asset: Asset3D) -> np.ndarray:
    assert asset.gaussians is not None
    return asset.gaussians.means.double().numpy()


def test_trellis_splats_stand_upright(tmp_path: Path) -> None:
    x, y, z = CHAIR.T  # TRELLIS: (x, y, z) -> (x, -z, y)
    asset = read_asset(_write_splats(tmp_path / "a.ply", TRELLIS_FIELDS, _splat_columns(np.stack([x, -z, y], 1))))
    np.testing.assert_allclose(_means(asset), CHAIR, atol=1e-7)
    assert (asset.alignment.up, asset.alignment.front, asset.alignment.how) == ("-y", "-z", "from the format")
    assert "TRELLIS" in asset.alignment.sentence and "kept" in asset.alignment.sentence


def test_lgm_splats_stand_upright_at_twice_the_size(tmp_path: Path) -> None:
    # Quantiles at 1 / 1000 of 18 points lie a little inside of the outermost.
    x, y, z = 2 * CHAIR.T + 0.3  # LGM: Y up, the first camera at +z: (x, y, z) -> (x, z, -y)
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(np.stack([x, z, -y], 1))))
    np.testing.assert_allclose(_means(asset), _fitted(CHAIR), atol=0.02)
    assert (asset.alignment.up, asset.alignment.front) == ("+y", "+z") and "LGM" in asset.alignment.sentence
    assert asset.gaussians is not None
    ratio = asset.gaussians.scales[0].numpy() / [0.1, 0.02, 0.01]
    np.testing.assert_allclose(ratio, asset.alignment.scale, rtol=1e-5)  # they shrink with the object
    assert asset.alignment.scale == pytest.approx(0.5, rel=0.02)


def test_activations_are_those_of_the_file_format(tmp_path: Path) -> None:
    columns = _splat_columns(CHAIR, opacity=np.log(0.7 / 0.3), rot_0=3.0)
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, columns), scale=1)
    assert asset.gaussians is not None
    torch.testing.assert_close(asset.gaussians.opacities, torch.full((18,), 0.7))
    torch.testing.assert_close(asset.gaussians.colors[0], torch.tensor([0.5 + SH_C0, 0.5, 0.5 - SH_C0]))
    torch.testing.assert_close(asset.gaussians.rotations.norm(dim=1), torch.ones(18))


def test_splats_turn_with_the_object(tmp_path: Path) -> None:
    """A needle along y of a Y-up file is a needle along z; its covariance says so."""
    half = math.sqrt(0.5)  # rotated by 90 degrees about z: the long axis, x, points along y
    columns = _splat_columns(CHAIR, rot_0=half, rot_3=half)
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, columns), scale=1)
    assert asset.gaussians is not None
    covariance = covariance_3d(asset.gaussians.scales, asset.gaussians.rotations)[0]
    # Local x, y, z become file y, -x, z and then object z, -x, -y.
    torch.testing.assert_close(covariance, torch.diag(torch.tensor([0.02, 0.01, 0.1]) ** 2), atol=1e-8, rtol=1e-5)


def test_our_own_files_come_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    made = Gaussians(
        means=torch.rand(50, 3, generator=generator) - 0.5,
        scales=torch.rand(50, 3, generator=generator) * 0.05 + 0.01,
        rotations=torch.nn.functional.normalize(torch.randn(50, 4, generator=generator), dim=1),
        opacities=torch.rand(50, generator=generator) * 0.8 + 0.1,
        sh=torch.randn(50, 1, 3, generator=generator),
    )
    write_ply(made, tmp_path / "a.ply", sh_degree=3)  # 45 fields of higher harmonics are left out
    asset = read_asset(tmp_path / "a.ply", scale=1.0)
    assert asset.gaussians is not None and asset.has_color and asset.is_unlit
    torch.testing.assert_close(asset.gaussians.means, made.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        covariance_3d(asset.gaussians.scales, asset.gaussians.rotations),
        covariance_3d(made.scales, made.rotations),
        atol=1e-7, rtol=0,
    )  # fmt: skip
    assert asset.alignment.scale == 1 and asset.alignment.offset == (0, 0, 0)


@pytest.mark.parametrize("change", [4.0, 0.1])
def test_splats_far_from_the_cube_are_fitted_whoever_wrote_them(tmp_path: Path, change: float) -> None:
    columns = _splat_columns(change * CHAIR)
    asset = read_asset(_write_splats(tmp_path / "a.ply", TRELLIS_FIELDS, columns), up="z")
    np.testing.assert_allclose(_means(asset), _fitted(CHAIR), atol=0.02)
    kept = read_asset(_write_splats(tmp_path / "b.ply", TRELLIS_FIELDS, _splat_columns(CHAIR)), up="z", scale="fit")
    np.testing.assert_allclose(_means(kept), _fitted(CHAIR), atol=0.02)


@pytest.mark.parametrize(("up", "expected"), [("y", ("+y", "+z")), ("-z:x", ("-z", "+x")), ("trellis", ("-y", "-z"))])
def test_given_axes_win(tmp_path: Path, up: str, expected: tuple[str, str]) -> None:
    asset = read_asset(_write_splats(tmp_path / "a.ply", TRELLIS_FIELDS, _splat_columns(CHAIR)), up=up)
    assert (asset.alignment.up, asset.alignment.front) == expected and asset.alignment.how == "given"


def test_a_given_scale_moves_nothing(tmp_path: Path) -> None:
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(CHAIR)), up="z", scale="0.5")
    np.testing.assert_allclose(_means(asset), 0.5 * CHAIR, atol=1e-7)


def test_strays_and_invisible_splats_do_not_set_the_scale(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cloud = generator.uniform(-1, 1, (4000, 3))
    cloud[0], cloud[1:20] = 50.0, generator.uniform(20, 30, (19, 3))
    opacity = np.full(4000, 2.0)
    opacity[1:20] = -5.0  # 0.0067
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(cloud, opacity=opacity)))
    assert asset.alignment.scale == pytest.approx(0.5, rel=0.01)


# ------------------------------------------------------------------------------------------------------------ meshes


def _mesh(**fields: object) -> Mesh:
    """Two triangles in object space: a floor, and something upright behind it."""
    vertices = np.array([[-0.5, -0.3, 0.0], [0.5, -0.3, 0.0], [0.0, 0.3, 0.0], [0.2, 0.3, 0.4]])
    return Mesh(vertices=vertices, faces=np.array([[0, 1, 2], [2, 1, 3]]), **fields)  # type: ignore[arg-type]


def _corners(asset: Asset3D) -> np.ndarray:
    assert asset.triangles is not None
    return np.sort(asset.triangles.triangles.mean(1), axis=0)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_exported_meshes_come_back_upright(tmp_path: Path, suffix: str) -> None:
    mesh = _mesh()
    (write_glb if suffix == ".glb" else write_obj)(mesh, tmp_path / f"a{suffix}")
    asset = read_asset(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(_corners(asset), np.sort(mesh.vertices[mesh.faces].mean(1), axis=0), atol=1e-6)
    fitted = read_asset(tmp_path / f"a{suffix}", scale="fit")
    expected = _fitted(mesh.vertices)[mesh.faces].mean(1)
    np.testing.assert_allclose(_corners(fitted), np.sort(expected, axis=0), atol=1e-6)
    assert "mdtdist" in asset.alignment.sentence and "longest side is 1" in fitted.alignment.sentence
    assert (asset.alignment.up, asset.alignment.front) == ("+y", "+z") and not asset.has_color and not asset.is_unlit


def test_unlit_glb_with_linear_vertex_colours_shows_the_colours_that_were_meant(tmp_path: Path) -> None:
    colors = np.array([[0.8, 0.5, 0.25], [0.0, 1.0, 0.5], [0.02, 0.03, 0.01], [0.3, 0.3, 0.3]])
    write_glb(_mesh(vertex_colors=colors), tmp_path / "a.glb")
    asset = read_asset(tmp_path / "a.glb")
    assert asset.has_color and asset.is_unlit and asset.triangles is not None
    np.testing.assert_allclose(asset.triangles.vertex_colors, colors, atol=1e-3)


def test_unlit_is_what_all_materials_say(tmp_path: Path) -> None:
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    write_glb(_mesh(uv=uv, texture=np.full((4, 4, 3), 90, np.uint8)), tmp_path / "a.glb")
    asset = read_asset(tmp_path / "a.glb")
    assert asset.is_unlit and asset.has_color


def test_colours_that_trimesh_wrote_are_left_as_they_are(tmp_path: Path) -> None:
    import trimesh

    colors = np.tile(np.array([200, 100, 50, 255], np.uint8), (4, 1))
    mesh = _mesh()
    trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False).export(tmp_path / "a.glb")
    asset = read_asset(tmp_path / "a.glb")
    assert asset.alignment.scale == pytest.approx(1) and "longest side is 1" in asset.alignment.sentence
    assert asset.triangles is not None and not asset.is_unlit
    np.testing.assert_allclose(asset.triangles.vertex_colors[0], colors[0, :3] / 255, atol=1e-6)


def test_textured_obj_has_colour(tmp_path: Path) -> None:
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    write_obj(_mesh(uv=uv, texture=np.full((4, 4, 3), 90, np.uint8)), tmp_path / "a.obj")
    asset = read_asset(tmp_path / "a.obj")
    assert asset.has_color and asset.is_unlit


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_mesh_ply_is_told_from_splats(tmp_path: Path, kind: str) -> None:
    import trimesh

    mesh = _mesh()
    data = trimesh.exchange.ply.export_ply(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), encoding=kind)
    (tmp_path / "a.ply").write_bytes(data if isinstance(data, bytes) else data.encode())
    asset = read_asset(tmp_path / "a.ply")
    assert asset.triangles is not None and len(asset.triangles.faces) == 2 and not asset.has_color
    assert (asset.alignment.up, asset.alignment.front) == ("+z", "-y")
    np.testing.assert_allclose(_corners(asset), np.sort(_fitted(mesh.vertices)[mesh.faces].mean(1), axis=0), atol=1e-6)


def test_a_rotation_of_the_file_comes_first(tmp_path: Path) -> None:
    mesh = _mesh()
    write_glb(mesh, tmp_path / "a.glb")
    quarter = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # about z of the file, which is -y of the object
    asset = read_asset(tmp_path / "a.glb", rotation=quarter)
    x, y, z = mesh.vertices.T
    turned = np.stack([-z, y, x], 1)  # file (x, z, -y) -> (-z, x, -y) -> object (-z, y, x)
    np.testing.assert_allclose(_corners(asset), np.sort(turned[mesh.faces].mean(1), axis=0), atol=1e-6)


def test_turning_an_asset_turns_what_it_is_and_what_it_says(tmp_path: Path) -> None:
    write_glb(_mesh(), tmp_path / "a.glb")
    asset = read_asset(tmp_path / "a.glb")
    quarter = as_matrix(axes_rotation("+z", "+x"))
    turned = turn_asset(asset, RotationChoice(rotation=quarter, distances=(), num_objects=1, sentence="turned"))
    assert asset.triangles is not None and turned.triangles is not None
    x, y, z = asset.triangles.vertices.T
    np.testing.assert_allclose(turned.triangles.vertices, np.stack([y, -x, z], 1), atol=1e-12)
    assert turned.alignment.how == "detected" and turned.alignment.sentence.endswith("; turned")
    assert (turned.alignment.up, turned.alignment.front) == ("+y", "+x")
    json.dumps(turned.alignment.record())


def test_gaussians_of_a_pipeline_stay_where_they_are() -> None:
    made = Gaussians(
        means=torch.rand(5, 3), scales=torch.ones(5, 3), rotations=torch.ones(5, 4), opacities=torch.ones(5),
        sh=torch.zeros(5, 1, 3),
    )  # fmt: skip
    asset = asset_of_gaussians(made)
    assert asset.gaussians is not None and torch.equal(asset.gaussians.means, made.means)
    assert asset.alignment.up == "+z" and asset.alignment.front == "-y"


# --------------------------------------------------------------------------------------------------------- bad files


def test_saturated_opacities_are_read(tmp_path: Path) -> None:
    opacity = np.full(18, 1.0)
    opacity[:2] = np.inf, -np.inf
    asset = read_asset(_write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(CHAIR, opacity=opacity)))
    assert asset.gaussians is not None and asset.gaussians.opacities[:2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.where(np.arange(18) == 3, np.nan, CHAIR[:, 0])}, "1 Gaussians whose means are not finite"),
        ({"opacity": np.nan}, "18 Gaussians whose opacities are not finite"),
        ({"scale_1": 200.0}, "scales are not finite"),
        ({"f_dc_1": np.inf}, "sh are not finite"),
        ({"opacity": -9.0}, "no Gaussian with an opacity of 0.1"),
        ({"rot_0": 0.0}, "quaternion of zeros"),
        ({"x": np.zeros(18), "y": 0.0, "z": 0.0}, "longest side of the object is 0"),
    ],
)
def test_bad_numbers_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = _write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(CHAIR, **changes))
    with pytest.raises(InputError, match=message):
        read_asset(path)


def test_headers_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    columns = _splat_columns(CHAIR)
    with pytest.raises(InputError, match="cut short"):
        read_asset(_write_splats(path, LGM_FIELDS, columns, count=19))
    with pytest.raises(InputError, match="announces 15000000 Gaussians|cut short"):
        read_asset(_write_splats(path, LGM_FIELDS, columns, count=15_000_000))
    with pytest.raises(InputError, match="announces 1000000000 vertex elements"):
        read_asset(_write_splats(path, LGM_FIELDS, columns, count=10**9))
    with pytest.raises(InputError, match="announces -5 vertex"):
        read_asset(_write_splats(path, LGM_FIELDS, columns, count=-5))
    with pytest.raises(InputError, match="holds no Gaussian"):
        read_asset(_write_splats(path, LGM_FIELDS, columns, count=0))


def test_a_header_is_compared_with_the_size_of_the_file_before_anything_else_is_read(tmp_path: Path) -> None:
    path = _write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(CHAIR), count=10**6)
    with pytest.raises(InputError, match="its header announces 56000000 bytes or more"):
        read_ply_header(path, max_count=10**7)
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 9000\nproperty float x\nend_header\n0\n")
    with pytest.raises(InputError, match="its header announces 18000 bytes or more"):
        read_ply_header(path, max_count=10**7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no PLY header"),
        (b"ply\n" + b"comment x\n" * 10_000, "no PLY header"),
        (b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "cannot be understood"),
        (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "cannot be understood"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n", "points without faces"),
    ],
)
def test_files_that_are_no_asset_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_asset(path)


def test_a_broken_mesh_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.glb"
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 10**9))
    with pytest.raises(InputError, match="broken.glb cannot be measured"):
        read_asset(path)


def test_paths_kinds_and_options_are_checked(tmp_path: Path) -> None:
    path = _write_splats(tmp_path / "a.ply", LGM_FIELDS, _splat_columns(CHAIR))
    with pytest.raises(InputError, match="is no file"):
        read_asset(tmp_path / "missing.ply")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="of no kind that is read"):
        read_asset(tmp_path / "a.txt")
    for up in ("w", "", "+q:z", "y:-y"):
        with pytest.raises(InputError, match="up is|is no axis"):
            read_asset(path, up=up)
    for scale in ("big", 0, -1.0, "nan", "inf"):
        with pytest.raises(InputError, match="scale is"):
            read_asset(path, scale=scale)
