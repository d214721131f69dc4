"""Exported files measured end to end: equal files score perfectly, worse ones worse, and nothing is measured twice."""

import dataclasses

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring import measure
from mdtdist.evaluation.measuring.judges import Judges, load_judges
from mdtdist.evaluation.measuring.measure import Job, Reading, measure_outputs
from mdtdist.evaluation.measuring.measured_record import Story, save_measured
from mdtdist.evaluation.measuring.object_measures import MAX_PSNR, Looks, Subject, normalize_points
from mdtdist.evaluation.measuring.outputs import find_outputs
from mdtdist.evaluation.measuring.protocols import load_protocol
from mdtdist.evaluation.measuring.records import System, objects_digest, read_record
from mdtdist.evaluation.measuring.references import open_reference
from mdtdist.evaluation.measuring.summary import summarize
from tests.evaluation.small_assets import NAMES, ColorNetwork, write_box, write_boxes, write_images, write_protocol


class FakeClip:
    """Pictures by their mean colour."""

    name = "clip-fake-1"

    def embed(self, pictures):
        return pictures.mean((2, 3))


@pytest.fixture
def job(tmp_path):
    protocol = load_protocol(write_protocol(tmp_path))
    reference = open_reference(write_boxes(tmp_path / "true"), images=write_images(tmp_path / "images"))
    judges = Judges(networks={"efficientnet": ColorNetwork()}, clip=FakeClip(), names={"clip": "clip-fake-1"})
    return Job(reference=reference, protocol=protocol, judges=judges, cache=tmp_path / "cache")


def run(job, folder, name="system", **options):
    outputs = find_outputs(folder, set(job.reference.ids), suffix=options.pop("suffix", None))
    measured = measure_outputs(job, name, outputs, **options)
    return measured, summarize(measured.measures, job.protocol, job.judges)


def test_the_true_files_score_perfectly(job, tmp_path):
    measured, summary = run(job, write_boxes(tmp_path / "made"))
    values = {name: metric.value for name, metric in summary.metrics.items()}
    assert values["psnr"] == MAX_PSNR and values["ssim"] == pytest.approx(1)
    assert values["psnr_normal"] == MAX_PSNR and values["ssim_normal"] == pytest.approx(1)
    assert values["chamfer"] < 1e-6 and values["f_score"] == 1 and values["iou"] == 1 and values["coverage"] == 1
    assert values["normal_consistency"] == pytest.approx(1, abs=1e-5)
    assert abs(values["fd_efficientnet"]) < 1e-9
    assert 0 < values["clip"] <= 100
    key = "features/mean-colour-1"
    made, true = measured.measures.features(key)[0], measured.measures.true_features(key)
    assert (made == true).all() and not np.allclose(true, true[::-1])  # object by object
    assert list(summary.not_measured) == ["diversity"]
    assert list(measured.alignments.values()) == [4] and "glTF" in next(iter(measured.alignments))


def test_another_shape_scores_worse(job, tmp_path):
    for name, made in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True):
        write_box(tmp_path / "made" / f"{name}.glb", made)
    _, summary = run(job, tmp_path / "made")
    assert summary.metrics["chamfer"].value > 0.05 and summary.metrics["f_score"].value < 0.9
    assert summary.metrics["psnr"].value < 25 and summary.metrics["iou"].value < 0.7
    assert summary.metrics["psnr_normal"].value < 25 and summary.metrics["ssim_normal"].value < 0.95


def test_normals_are_coloured_by_the_axes_of_the_object(job):
    looks = Looks(Subject(id="box", digest="", load=job.reference.objects["box"].read), job.protocol)
    side, front = looks.normal_pictures.transpose(0, 2, 3, 1)  # cameras at +X and at the front, -Y, from above
    faces = {"right": (255, 128, 128), "front": (128, 0, 128), "top": (128, 128, 255), "nothing": (255, 255, 255)}
    counts = [
        {name: int((abs(view.astype(int) - color).max(-1) < 6).sum()) for name, color in faces.items()}
        for view in (side, front)
    ]
    assert counts[0]["right"] > 20 and counts[0]["top"] > 20 and counts[0]["front"] == 0
    assert counts[1]["front"] > 20 and counts[1]["top"] > 20 and counts[1]["right"] == 0
    assert min(count["nothing"] for count in counts) > 50


def test_scale_is_forgiven_only_when_asked_for(job, tmp_path):
    folder = write_boxes(tmp_path / "made", grow=0.5)
    assert run(job, folder)[1].metrics["chamfer"].value < 1e-6
    assert run(job, folder, reading=Reading(scale=1.0))[1].metrics["chamfer"].value > 0.02
    assert run(job, folder, reading=Reading(scale=2.0))[1].metrics["chamfer"].value < 1e-6


def test_which_way_is_up_is_given_or_detected_for_the_whole_system(job, tmp_path):
    # The same boxes in files that are read as Z up.
    folder = write_boxes(tmp_path / "made", suffix=".ply")
    assert run(job, folder)[1].metrics["chamfer"].value > 0.02
    assert run(job, folder, reading=Reading(up="gltf"))[1].metrics["chamfer"].value < 1e-6
    measured, summary = run(job, folder, reading=Reading(up="detect"))
    assert summary.metrics["chamfer"].value < 0.02
    (sentence,) = measured.alignments
    assert "one for the whole system" in sentence


def test_shapes_without_colours_get_geometry_only(job, tmp_path):
    _, summary = run(job, write_boxes(tmp_path / "made", color=None))
    shape = {"chamfer", "f_score", "normal_consistency", "iou", "psnr_normal", "ssim_normal"}
    assert set(summary.metrics) == shape
    assert summary.not_measured["fd_efficientnet"] == "no file has a colour: geometry only"


def test_an_empty_output_counts_as_such(job, tmp_path):
    folder = write_boxes(tmp_path / "made", names=NAMES[1:])
    (folder / "box.empty").touch()
    measured, summary = run(job, folder)
    scores = {name: values[0] for name, values in summary.per_object.items()}
    assert (scores["f_score"], scores["normal_consistency"]) == (0, 0)
    assert 0.3 < scores["chamfer"] < 0.45  # the middle of the cube; a corner would have 0.5
    assert 6 < scores["psnr"] < 20  # a white picture; a black one has less than 4
    assert measured.alignments["empty"] == 1
    assert [summary.per_object["psnr"][index] for index in (1, 2, 3)] == [MAX_PSNR] * 3


def test_seeds_are_averaged_and_give_diversity(job, tmp_path):
    write_boxes(tmp_path / "made/seed0")
    write_boxes(tmp_path / "made/seed3", color=(0, 0, 0))
    measured, summary = run(job, tmp_path / "made")
    assert list(measured.measures.outputs) == [0, 3]
    assert summary.metrics["diversity"].value > 0.01 and summary.metrics["chamfer"].value < 1e-6
    assert summary.metrics["psnr"].value < MAX_PSNR


def test_missing_objects_leave_both_sides(job, tmp_path):
    folder = write_boxes(tmp_path / "made", names=NAMES[:3])
    with pytest.raises(InputError, match="slab"):
        run(job, folder)
    (folder / "post.glb").write_text("no model")
    with pytest.raises(InputError, match="post cannot be measured"):
        write_boxes(folder, names=("slab",))
        run(job, folder)
    measured, summary = run(job, folder, allow_missing=True)
    assert measured.measures.ids == ["box", "plank", "slab"] and list(measured.lacking) == ["post"]
    assert {metric.n for metric in summary.metrics.values()} == {3}
    assert abs(summary.metrics["fd_efficientnet"].value) < 1e-9  # the same three on either side


def test_a_killed_run_goes_on_and_a_changed_file_is_measured_again(job, tmp_path, monkeypatch):
    folder, reads = write_boxes(tmp_path / "made"), []
    real = measure.read_asset

    def counting(path, **options):
        reads.append(path.name)
        if len(reads) == 3:
            raise KeyboardInterrupt
        return real(path, **options)

    monkeypatch.setattr(measure, "read_asset", counting)
    with pytest.raises(KeyboardInterrupt):
        run(job, folder)
    first = run(job, folder)[1]
    assert reads == ["box.glb", "plank.glb", "post.glb", "post.glb", "slab.glb"]
    assert run(job, folder)[1] == first and len(reads) == 5
    write_box(folder / "plank.glb", "plank", color=(0, 0, 0))
    assert run(job, folder)[1].metrics["psnr"].value < first.metrics["psnr"].value and reads[5:] == ["plank.glb"]
    run(job, folder, reading=Reading(scale=0.5))
    assert len(reads) == 10


def test_the_cache_is_that_of_one_protocol_and_one_reference(job, tmp_path):
    folder = write_boxes(tmp_path / "made")
    before = run(job, folder)[1]
    darker = dataclasses.replace(job.protocol.pictures, background=0.0)
    other = dataclasses.replace(job, protocol=dataclasses.replace(job.protocol, pictures=darker))
    assert run(other, folder)[1].metrics["clip"].value != before.metrics["clip"].value
    write_box(tmp_path / "true/box.glb", "slab")
    assert run(job, folder)[1].metrics["chamfer"].value > before.metrics["chamfer"].value


def test_other_weights_are_other_measurements(job, tmp_path):
    folder = write_boxes(tmp_path / "made")
    before = run(job, folder)[1].metrics["clip"].value
    inverted = FakeClip()
    inverted.embed = lambda pictures: 1 - pictures.mean((2, 3))
    judges = dataclasses.replace(job.judges, clip=inverted, names={"clip": "clip-fake-2"})
    after = run(dataclasses.replace(job, judges=judges), folder)[1].metrics["clip"]
    assert after.value != before and after.network == "clip-fake-2"


def test_the_record_and_its_picture(job, tmp_path):
    measured, _ = run(job, write_boxes(tmp_path / "made"))
    measured.lacking["sofa"] = "no output"
    story = Story(
        system=System(name="my system 1+1"), command="mdtdist", alignment={"up": "auto"}, seconds={"flow": 1.5}
    )
    save_measured(job, measured, story, tmp_path / "out")
    record = read_record(tmp_path / "out/my_system_1+1.json")
    assert record.protocol.digest == job.protocol.digest and record.objects == NAMES
    assert record.objects_digest == objects_digest(NAMES) and record.seconds == {"flow": 1.5}
    assert record.alignment["up"] == "auto" and sum(record.alignment["found"].values()) == 4
    assert "sofa: no output" in record.notes[0]
    assert record.pictures == ("my_system_1+1.png",) and (tmp_path / "out" / record.pictures[0]).stat().st_size > 500


def test_condition_pictures_are_asked_for_by_name(tmp_path):
    folder, images = write_boxes(tmp_path / "true"), write_images(tmp_path / "images", NAMES[:3])
    with pytest.raises(InputError, match=r"no picture of slab \(1 of 4 objects"):
        open_reference(folder, images=images)
    assert not open_reference(folder).has_images
    assert open_reference(folder, images=images, limit=2).ids == ["box", "plank"]


def test_without_weights_or_pictures_a_metric_is_listed_as_missing(tmp_path):
    protocol = load_protocol("shipped-test")
    judges = load_judges(protocol, {}, has_images=False)
    assert list(judges.networks) == ["efficientnet"]
    assert judges.missing["fd_dinov2"].startswith("no weights: give --weights dinov2=FILE")
    assert judges.missing["clip"] == "the reference has no condition pictures; give them with --images"
    assert set(judges.missing) == {
        *("fd_dinov2", "kd_dinov2", "fd_inception", "kd_inception", "clip", "ulip1", "ulip2", "uni3d"),
        *("lpips", "lpips_normal"),
    }
    with pytest.raises(InputError, match="unknown weights 'dino'"):
        load_judges(protocol, {"dino": tmp_path}, has_images=True)
    with pytest.raises(InputError, match="are not at"):
        load_judges(protocol, {"dinov2": tmp_path / "none.pth"}, has_images=True)


def test_a_network_of_another_variant_is_refused():
    own = load_protocol("shipped-test")
    spec = dataclasses.replace(own.networks[0], variant="efficientnet-lite0-bicubic299-")
    with pytest.raises(InputError, match="efficientnet-lite0-bilinear224.*the protocol asks for"):
        load_judges(dataclasses.replace(own, networks=(spec, *own.networks[1:])), {}, has_images=False)


def test_points_are_normalised_as_the_protocol_says():
    points = np.array([[1.0, 1, 1], [3, 1, 1], [3, 2, 1], [1, 2, 1]])
    assert (normalize_points(points, how="none") == points).all()
    cube = normalize_points(points, how="unit-cube")
    assert cube.min(0).tolist() == [-0.5, -0.25, 0] and cube.max(0).tolist() == [0.5, 0.25, 0]
    sphere = normalize_points(points, how="unit-sphere")
    assert np.linalg.norm(sphere, axis=1).max() == pytest.approx(1) and sphere.mean(0) == pytest.approx(np.zeros(3))


def test_a_network_with_damaged_weights_is_refused(job, tmp_path):
    class Damaged(ColorNetwork):
        def __call__(self, pictures):
            return super().__call__(pictures) * np.nan

    job.judges.networks["efficientnet"] = Damaged()
    with pytest.raises(InputError, match="mean-colour-1 gives features that are not finite"):
        run(job, write_boxes(tmp_path / "made"))
