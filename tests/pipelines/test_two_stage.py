"""What image and text pipelines share: options, decoders, memory, the cap on voxels, given structures."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mdtdist import ImageTo3D
from mdtdist.errors import InputError
from mdtdist.pipelines import TooManyVoxelsError, occupied
from mdtdist.pipelines.structure import structure_logits
from mdtdist.representations import Gaussians, Mesh, Strivec
from mdtdist.sparse import SparseTensor
from tests.pipelines.test_image_to_3d import assert_same, picture
from tests.pipelines.tiny import RESOLUTION, write_pipeline

STAGES = ["conditioning", "structure", "structure_decode", "latent"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("all"), all_decoders=True)


@pytest.fixture(scope="module")
def pipe(folder):
    return ImageTo3D.from_pretrained(folder)


@pytest.fixture(scope="module")
def everything(pipe):
    return pipe(picture(), decoders=["gs", "mesh", "rf"])


def slab() -> Mesh:
    """A rectangle in the plane z = 0, twice as long in x as in y, away from the origin."""
    corners = np.array([[3, 1, 0], [5, 1, 0], [5, 2, 0], [3, 2, 0]], float)
    return Mesh(vertices=corners, faces=np.array([[0, 1, 2], [0, 2, 3]]))


# ------------------------------------------------------------------------------------------------------------- seeds


def test_every_sample_can_have_its_seed(pipe):
    images = [picture(), picture()]
    first, second = pipe(images, seed=[7, 8], decoders=["gs"])
    assert (first.seed, second.seed) == (7, 8)
    for asset, seed in ((first, 7), (second, 8)):
        torch.testing.assert_close(
            asset.logits, pipe(picture(), seed=seed, decoders=["gs"]).logits, atol=1e-5, rtol=1e-5
        )


def test_global_randomness_is_neither_used_nor_moved(pipe):
    torch.manual_seed(1)
    asset = pipe(picture(), decoders=["gs"])
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert_same(pipe(picture(), decoders=["gs"]), asset, 0)


@pytest.mark.parametrize("seed", [-1, 2**63, [1], [1, 2, 3], [1, -1], [0.5, 1]])
def test_bad_seeds_are_input_errors(pipe, seed):
    with pytest.raises(InputError, match="seed is"):
        pipe([picture(), picture()], seed=seed)


# ---------------------------------------------------------------------------------------------------------- guidance


def test_guidance_per_flow_another_scale_or_off(pipe):
    run = dict(flows="teacher", steps=2, decoders=["gs"])
    assert pipe(picture(), **run).nfe == {"structure": 4, "latent": 4}  # warped times 1 and 0.75, both in [0.5, 1]
    off = pipe(picture(), cfg_strength=0, **run)
    half = pipe(picture(), cfg_strength=(0, 2.0), **run)
    assert off.nfe == {"structure": 2, "latent": 2} and half.nfe == {"structure": 2, "latent": 4}
    assert torch.equal(half.logits, off.logits)
    assert not torch.equal(half.gaussians.means, off.gaussians.means)
    stronger = pipe(picture(), cfg_strength=4.0, **run)
    assert not torch.equal(stronger.logits, pipe(picture(), **run).logits)


def test_guided_step_by_hand(pipe):
    """One step of the teacher: x_0 = z - ((1 + w) v(cond) - w v(0))."""
    noise = pipe.structure_noise([torch.Generator().manual_seed(0)])
    cond = pipe.encode(pipe.prepare(picture())[None])
    network, t = pipe.network("sparse_structure_flow_model"), torch.tensor([1000.0])
    expected = noise - (2.5 * network(noise, t, cond) - 1.5 * network(noise, t, torch.zeros_like(cond)))
    actual = pipe.sample_structure(cond, noise, flows="teacher", steps=1, cfg_strength=1.5).x
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", [-1, (1, -1), (1, 2, 3), float("nan")])
def test_bad_guidance_is_an_input_error(pipe, strength):
    with pytest.raises(InputError, match="cfg_strength is"):
        pipe(picture(), cfg_strength=strength)


def test_unknown_option_is_named(pipe):
    with pytest.raises(TypeError, match="unknown option 'guidance'"):
        pipe(picture(), guidance=3)


# ---------------------------------------------------------------------------------------------------------- decoders


def test_every_decoder_gives_its_representation(everything):
    assert isinstance(everything.gaussians, Gaussians) and isinstance(everything.radiance_field, Strivec)
    assert isinstance(everything.surface, Mesh) and len(everything.surface.faces) > 0
    assert len(everything.radiance_field) == everything.num_voxels
    assert list(everything.timings) == [*STAGES, "gaussians", "surface", "radiance_field"]
    assert everything.metadata()["decoders"] == ["gs", "mesh", "rf"]


def test_default_decoders_are_gaussians_and_mesh_as_far_as_they_are_there(pipe, tmp_path):
    assert pipe.resolve_decoders(None) == ("gs", "mesh") and pipe.resolve_decoders("rf") == ("rf",)
    only = ImageTo3D.from_pretrained(write_pipeline(tmp_path))
    assert only.resolve_decoders(None) == ("gs",)
    with pytest.raises(InputError, match="has no 'mesh' decoder; expected 'gs'"):
        only(picture(), decoders=["mesh"])
    with pytest.raises(InputError, match="no decoder"):
        only(picture(), decoders=[])


def test_a_model_can_say_what_it_decodes_by_default(pipe, tmp_path):
    description = json.loads((pipe.config.folder / "pipeline.json").read_text())
    description["args"]["default_decoders"] = ["gs"]
    folder = tmp_path / "model"
    shutil.copytree(pipe.config.folder, folder)
    (folder / "pipeline.json").write_text(json.dumps(description))
    said = ImageTo3D.from_pretrained(folder)
    assert pipe.resolve_decoders(None) == ("gs", "mesh") and said.resolve_decoders(None) == ("gs",)
    assert said.resolve_decoders(["mesh"]) == ("mesh",)
    assert said.config.save_pretrained(tmp_path / "copy").default_decoders == ("gs",)
    description["args"]["default_decoders"] = ["gsplat"]
    (folder / "pipeline.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="default_decoders names 'gsplat'"):
        ImageTo3D.from_pretrained(folder)


def test_mesh_of_an_asset_is_the_decoded_surface(everything):
    """The marching cubes surface reaches half a voxel less far or more; the decoded one is simplified, not replaced."""
    finished = everything.finish_mesh(faces=None, texture_size=None)
    assert finished.num_faces_before == len(everything.surface.faces)
    assert everything.mesh is finished.mesh
    bounds = np.stack([everything.surface.vertices.min(0), everything.surface.vertices.max(0)])
    np.testing.assert_allclose([finished.mesh.vertices.min(0), finished.mesh.vertices.max(0)], bounds, atol=1e-9)


def test_asset_without_gaussians_has_a_mesh_with_the_decoder_s_colours(pipe, tmp_path):
    asset = pipe(picture(), decoders=["mesh"])
    finished = asset.finish_mesh(faces=300, texture_size=None)
    assert len(finished.mesh.faces) < finished.num_faces_before and finished.mesh.vertex_colors is not None
    assert asset.save(tmp_path / "a.glb").read_bytes()[:4] == b"glTF"
    with pytest.raises(InputError, match="made with the decoders mesh; add 'gs'"):
        asset.save(tmp_path / "a.ply")
    assert asset.metadata()["num_gaussians"] == 0


def test_radiance_field_file_holds_it(everything, tmp_path):
    field = everything.radiance_field
    with safe_open(everything.save(tmp_path / "a.safetensors"), "pt") as file:
        assert file.metadata() == {"resolution": str(RESOLUTION)}
        assert torch.equal(file.get_tensor("trivec"), field.trivec)
        assert torch.equal(file.get_tensor("coords"), field.coords)
    with pytest.raises(InputError, match="'mesh' or 'gs'"):
        replace(everything, representations={"rf": field}).finish_mesh()


# ------------------------------------------------------------------------------------------------------------ memory


def test_low_memory_holds_one_network_at_a_time_and_gives_the_same(folder, pipe):
    sparing = ImageTo3D.from_pretrained(folder, low_memory=True)
    held = []
    sparing.load_flows("student")
    asset = sparing(picture(), steps=2, decoders=["gs"], progress=lambda *_: held.append(list(sparing._networks)))
    assert held == [["sparse_structure_flow_model_student"]] * 2 + [["slat_flow_model_student"]] * 2
    assert sparing._networks == {}
    assert_same(asset, pipe(picture(), steps=2, decoders=["gs"]), 0)


def test_low_memory_frees_after_a_failure(folder):
    sparing = ImageTo3D.from_pretrained(folder, low_memory=True)
    with pytest.raises(RuntimeError, match="stop"):
        sparing(picture(), progress=lambda *_: (_ for _ in ()).throw(RuntimeError("stop")))
    assert sparing._networks == {}


def test_loading_first_reads_what_a_call_needs_and_no_more(folder):
    pipe = ImageTo3D.from_pretrained(folder)
    assert pipe._networks == {}
    pipe.load_flows("teacher", ["gs"])
    expected = {"encoder", "sparse_structure_flow_model", "sparse_structure_decoder", "slat_flow_model"}
    assert set(pipe._networks) == expected | {"slat_decoder_gs"}


# --------------------------------------------------------------------------------------------------------- voxel cap


def test_too_many_voxels_are_a_clear_failure_before_the_latent_flow(pipe):
    seen = []
    with pytest.raises(TooManyVoxelsError, match=r"produced \d+ voxels for sample 0; expected at most 3.*more steps"):
        pipe(picture(), max_voxels=3, progress=lambda stage, *_: seen.append(stage))
    assert seen == ["structure"]


def test_the_cap_is_per_sample_and_inclusive():
    logits = torch.full((2, 2, 2, 2), -1.0)
    logits[:, 0] = 1
    assert len(occupied(logits, max_voxels=4)) == 8
    logits[1, 1, 0, 0] = 1
    with pytest.raises(TooManyVoxelsError, match="5 voxels for sample 1"):
        occupied(logits, max_voxels=4)


# --------------------------------------------------------------------------------------------------- given structure


def test_structure_of_a_mesh_is_its_voxels_in_the_unit_cube():
    """Centred and scaled by 1/2: x fills the grid, y its middle half, the plane z = 0 touches both middle layers."""
    logits = structure_logits(slab(), resolution=8)
    occupied = torch.argwhere(logits > 0)
    assert occupied[:, 0].unique().tolist() == list(range(8))
    # y runs over [-0.25, 0.25], which is [2, 6] in voxels; voxels are closed, so both neighbours of a face count.
    assert set(occupied[:, 1].tolist()) >= {2, 3, 4, 5} and set(occupied[:, 1].tolist()) <= {1, 2, 3, 4, 5, 6}
    assert set(occupied[:, 2].tolist()) <= {3, 4} and set(logits.unique().tolist()) == {-1.0, 1.0}


def test_structure_of_a_glb_is_turned_upright(tmp_path):
    """A pole along y of a glTF file (Y up) is a column along z."""
    import trimesh

    trimesh.creation.box((0.1, 1.0, 0.1)).export(tmp_path / "pole.glb")
    occupied = torch.argwhere(structure_logits(tmp_path / "pole.glb", resolution=8) > 0)
    assert occupied[:, 2].unique().tolist() == list(range(8)) and set(occupied[:, 0].tolist()) <= {3, 4}


def test_variant_has_the_voxels_of_the_mesh_and_skips_the_first_stage(pipe):
    seen = []
    asset = pipe(picture(), structure=slab(), steps=2, progress=lambda stage, *_: seen.append(stage), decoders=["gs"])
    assert torch.equal(asset.logits, structure_logits(slab(), resolution=RESOLUTION))
    assert seen == ["latent"] * 2 and asset.nfe == {"structure": 0, "latent": 2}
    assert list(asset.timings) == ["conditioning", "latent", "gaussians"]
    assert len(asset.gaussians) == 4 * asset.num_voxels
    other = pipe(picture((0, 0, 255)), structure=slab(), steps=2, decoders=["gs"])
    assert torch.equal(other.logits, asset.logits) and not torch.equal(other.gaussians.sh, asset.gaussians.sh)


def test_structure_can_be_that_of_another_asset(pipe):
    asset = pipe(picture(), decoders=["gs"])
    variant = pipe(picture((0, 0, 255)), structure=asset.logits, decoders=["gs"])
    assert torch.equal(variant.logits, asset.logits)
    with pytest.raises(InputError, match=r"shape \(4, 4, 4\); expected \(8, 8, 8\)"):
        pipe(picture(), structure=asset.logits[:4, :4, :4])


def test_variant_of_its_own_voxels_has_fresh_noise_for_the_latent_alone(pipe):
    """Without a first stage the first numbers of the generator go to the latent flow."""
    asset = pipe(picture(), structure=slab(), seed=3, decoders=["gs"])
    coords = occupied(asset.logits[None])
    noise = pipe.latent_noise(coords, [torch.Generator().manual_seed(3)])
    cond = pipe.encode(pipe.prepare(picture())[None])
    latent = pipe.sample_latent(cond, coords, noise, flows="student", steps=1).x
    assert_same(asset, replace(asset, representations={"gs": pipe.decode_latent(latent, coords)[0]}))


@pytest.mark.parametrize("flows", ["student", "teacher"])
def test_batch_of_variants_equals_one_by_one(pipe, flows):
    images = [picture(), picture((0, 0, 255))]
    run = dict(structure=slab(), steps=2, flows=flows, decoders=["gs"])
    for image, asset in zip(images, pipe(images, **run), strict=True):
        assert_same(asset, pipe(image, **run))


def test_batch_of_latents_is_decoded_as_one_by_one(pipe):
    """Mesh and radiance field; of the mesh what it is extracted from, since a value near 0 can change its faces."""
    coords = occupied(structure_logits(slab(), resolution=RESOLUTION)[None].expand(2, -1, -1, -1))
    feats = torch.randn(len(coords), 8, generator=torch.Generator().manual_seed(0))
    slat = SparseTensor(feats, coords)
    fields, cubes = pipe.decode_latent(feats, coords, "rf"), pipe.network("slat_decoder_mesh").cubes(slat)
    for index, part in enumerate(cubes.feats.split(cubes.lengths)):
        rows = coords[:, 0] == index
        alone = coords[rows] * torch.tensor([0, 1, 1, 1], dtype=torch.int32)
        field = pipe.decode_latent(feats[rows], alone, "rf")[0]
        torch.testing.assert_close(fields[index].trivec, field.trivec, atol=1e-5, rtol=1e-5)
        raw = pipe.network("slat_decoder_mesh").cubes(SparseTensor(feats[rows], alone)).feats
        torch.testing.assert_close(part, raw, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "mesh",
    [
        "gone.glb",
        Mesh(vertices=np.zeros((3, 3)), faces=np.array([[0, 1, 2]])),
        Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), int)),
        Mesh(vertices=np.full((3, 3), np.nan), faces=np.array([[0, 1, 2]])),
    ],
)
def test_unusable_structure_is_an_input_error(pipe, mesh):
    with pytest.raises(InputError, match="cannot be used"):
        pipe(picture(), structure=mesh)


def test_damaged_mesh_file_is_an_input_error(tmp_path):
    for name in ("a.glb", "a.obj", "a.txt"):
        (tmp_path / name).write_bytes(b"nothing of use")
        with pytest.raises(InputError, match=f"{name}' cannot be used"):
            structure_logits(tmp_path / name, resolution=8)
