"""Protocol files: strict, with a digest that follows every field."""

import dataclasses
import math

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.protocols import Protocol, Ring, load_protocol, shipped_protocols, split_metric

SMALL = """
id = "own"
title = "mine"
objects = "all"
metrics = ["fd_efficientnet", "chamfer"]

[[networks]]
name = "efficientnet"

[pictures]
size = 32
background = 1.0
frechet = { yaws = [0, 90] }
clip = { yaws = [0] }

[points]
size = 32
count = 100
tau = 0.05
iou_resolution = 16
rings = [{ yaws = [0, 180] }]
"""


def own(tmp_path, text=SMALL, name="own.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_shipped_protocols_have_the_views_of_the_publication():
    assert shipped_protocols() == ["mdt-toys4k-3218", "shipped-test", "trellis-toys4k"]
    for name in shipped_protocols():
        protocol = load_protocol(name)
        ring = protocol.pictures.frechet
        assert (ring.yaws, ring.pitch, ring.radius, ring.fov) == ((0.0, 90.0, 180.0, 270.0), 30.0, 2.0, 40.0)
        assert len(protocol.pictures.clip.yaws) == 8
        assert protocol.chosen  # what we chose is written down
    assert load_protocol("mdt-toys4k-3218").num_objects == 3218
    assert "psnr" not in load_protocol("trellis-toys4k").metrics


def test_cameras_stand_where_the_ring_says():
    front = Ring(yaws=(-90.0,), pitch=30.0, radius=2.0, fov=40.0).cameras()[0]
    expected = torch.tensor([0.0, -2 * math.cos(math.radians(30)), 1.0])
    assert torch.allclose(front.camera_to_world[:3, 3], expected, atol=1e-6)
    assert front.fov == pytest.approx(math.radians(40))
    assert torch.allclose(front.project(torch.zeros(1, 3), 100)[0], torch.full((1, 2), 50.0), atol=1e-3)


def test_a_protocol_of_ones_own_goes_by_its_path(tmp_path):
    protocol = load_protocol(own(tmp_path))
    assert protocol.id == "own" and protocol.bootstrap.resamples == 2000


def test_the_digest_does_not_depend_on_how_the_file_is_written(tmp_path):
    first = load_protocol(own(tmp_path)).digest
    moved = SMALL.replace('title = "mine"\n', "").replace("objects =", '# a remark\ntitle = "mine"\nobjects =')
    assert load_protocol(own(tmp_path, moved.replace("background = 1.0", "background = 1"))).digest == first
    assert len(first) == 64


def changes(value):
    """Every way to change one field of a protocol, however deep."""
    for field in dataclasses.fields(value):
        here = getattr(value, field.name)
        if dataclasses.is_dataclass(here):
            for where, new in changes(here):
                yield f"{field.name}.{where}", dataclasses.replace(value, **{field.name: new})
        elif field.name not in ("metrics", "networks", "rings"):
            yield field.name, dataclasses.replace(value, **{field.name: other(here)})


def other(value):
    for old, new in (("default", "flashvdm"), ("none", "unit-cube")):
        if value == old:
            return new
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, "more" if not value or isinstance(value[0], str) else 7.0)
    if value is None:
        return 2
    return value + 1 if isinstance(value, int) else value * 0.9


def test_the_digest_changes_with_every_field(tmp_path):
    protocol = load_protocol(own(tmp_path))
    changed = dict(changes(protocol))
    assert {"title", "known", "pictures.frechet.pitch", "points.tau", "shapes.seed", "bootstrap.level"} <= set(changed)
    wider = dataclasses.replace(protocol, metrics=(*protocol.metrics, "iou"))
    more = dataclasses.replace(protocol, networks=(dataclasses.replace(protocol.networks[0], variant="a"),))
    rings = dataclasses.replace(protocol.points, rings=(*protocol.points.rings, Ring(yaws=(1.0,))))
    points = dataclasses.replace(protocol, points=rings)
    digests = [item.digest for item in (protocol, wider, more, points, *changed.values())]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tau =", "tua =", "unknown key 'tua' in .*points; did you mean 'tau'"),
        ('"chamfer"]', '"chanfer"]', "unknown metric 'chanfer'; did you mean 'chamfer'"),
        ('"chamfer"]', '"fd_dinov2"]', "needs the network 'dinov2'"),
        ('"chamfer"]', '"fd_efficientnet"]', "none twice"),
        ("size = 32\nbackground", "size = 8\nbackground", "size 8"),
        ("tau = 0.05", "tau = 0.0", "tau 0.0"),
        ("tau = 0.05\n", "", "lacks 'tau'"),
        ("rings = [{ yaws = [0, 180] }]", "rings = []", "0 rings"),
        ("frechet = { yaws = [0, 90] }", "frechet = { yaws = [] }", "no yaws"),
        ("frechet = { yaws = [0, 90] }", "frechet = { yaws = [0], pitch = 95 }", "pitch 95"),
        ('id = "own"', 'id = "another"', "expected the name of the file"),
        ('name = "efficientnet"', 'name = "resnet"', "expected one of 'inception'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(InputError, match=message):
        load_protocol(own(tmp_path, SMALL.replace(old, new)))


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'shipped-test'"):
        load_protocol("shiped-test")
    with pytest.raises(InputError, match="cannot read"):
        load_protocol("nowhere.toml")


def test_metric_names_split_at_the_network():
    assert split_metric("fd_dinov2_reg") == ("fd", "dinov2_reg")
    assert split_metric("f_score") == ("f_score", "")
    assert isinstance(load_protocol("shipped-test"), Protocol)
