"""Limits on memory and time, and files damaged at random: a reason, never a crash."""

import threading
import time

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mdtdist.data.bounds import OutOfTime, bounded
from mdtdist.data.normalize import load_normalized
from mdtdist.data.untrusted import Limits, load_checked
from mdtdist.errors import InputError


def _refused(path, match, **limits):
    with pytest.raises(InputError, match=match):
        load_checked(path, Limits(**limits))


def _box(path):
    trimesh.creation.box().export(path)
    return path


# -------------------------------------------------------------------------------------------------------------- bounds


def test_memory_beyond_the_limit_is_a_reason(tmp_path, monkeypatch):
    path = _box(tmp_path / "box.stl")
    monkeypatch.setattr(trimesh, "load_scene", lambda *args, **kwargs: np.empty(2**28))
    _refused(path, "needs more than 0.25 GiB of memory", max_memory=2**28)
    assert np.empty(2**28).nbytes == 2**31  # the limit is taken back


def test_limit_on_memory_ends_with_the_last_of_several_threads():
    first_in, first_out = threading.Event(), threading.Event()

    def first():
        with bounded(max_memory=2**28, max_seconds=60):
            first_in.set()
            first_out.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(10)
    with bounded(max_memory=2**28, max_seconds=60):
        first_out.set()
        thread.join()
        with pytest.raises(MemoryError):
            np.empty(2**28)
    assert np.empty(2**28).nbytes == 2**31


def test_time_beyond_the_limit_is_a_reason(tmp_path, monkeypatch):
    def dawdle(*args, **kwargs):
        for _ in range(3):
            try:
                time.sleep(1.5)
            except BaseException as err:  # as readers do
                if stubborn.pop():
                    raise err

    stubborn = [True, False]
    monkeypatch.setattr(trimesh, "load_scene", dawdle)
    _refused(_box(tmp_path / "box.stl"), "longer than 0.05 s", max_seconds=0.05)


def test_alarm_of_the_caller_is_left_alone():
    with bounded(max_memory=2**30, max_seconds=0.2):
        with bounded(max_memory=2**30, max_seconds=0.01):
            time.sleep(0.05)
    with pytest.raises(OutOfTime):
        with bounded(max_memory=2**30, max_seconds=0.01):
            time.sleep(1)


# ---------------------------------------------------------------------------------------------------------------- fuzz


def _seeds():
    mesh = trimesh.creation.box()
    mesh.visual = trimesh.visual.TextureVisuals(uv=mesh.vertices[:, :2], image=Image.new("RGB", (2, 2)))
    plain = trimesh.creation.box()
    seeds = {kind: mesh.export(file_type=kind) for kind in ("glb", "ply")}
    seeds |= {kind: plain.export(file_type=kind) for kind in ("obj", "stl", "stl_ascii", "off")}
    seeds["ply_ascii"] = plain.export(file_type="ply", encoding="ascii")
    return {kind: data.encode() if isinstance(data, str) else data for kind, data in seeds.items()}


_SEEDS = _seeds()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(sorted(_SEEDS)),
    length=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_are_read_or_refused(tmp_path, kind, length, flips):
    data = bytearray(_SEEDS[kind])
    for place, value in flips:
        data[int(place * len(data))] = value
    path = tmp_path / f"fuzz.{kind.split('_')[0]}"
    path.write_bytes(data[: max(1, int(length * len(data)))] if length < 0.9 else data)
    try:
        result = load_normalized(path, limits=Limits(max_memory=2**30, max_seconds=20))
    except ValueError:
        return
    assert np.isfinite(result.vertices).all() and np.abs(result.vertices).max() <= 0.5
    assert result.faces.min() >= 0 and result.faces.max() < len(result.vertices)
    assert len(result.faces) == len(result.face_material)
