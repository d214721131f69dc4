import builtins
import dataclasses
import zipfile

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.export.usdz import write_usdz


def test_without_the_library_the_extra_is_named(quad, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_usd(name, *args, **kwargs):
        if name.split(".")[0] == "pxr":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_usd)
    with pytest.raises(InputError, match=r"install the extra: pip install 'mdtdist\[usdz\]'"):
        write_usdz(quad, tmp_path / "a.usdz")
    assert not list(tmp_path.iterdir())


def test_the_package_is_uncompressed_aligned_and_the_scene_comes_first(quad, tmp_path):
    pytest.importorskip("pxr", reason="the extra usdz is not installed")
    write_usdz(quad, tmp_path / "a.usdz")
    with zipfile.ZipFile(tmp_path / "a.usdz") as package:
        entries = package.infolist()
    assert [entry.filename for entry in entries] == ["object.usdc", "color.png"]
    content = (tmp_path / "a.usdz").read_bytes()
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        lengths = np.frombuffer(content, "<u2", 2, entry.header_offset + 26)  # of the name and the extra field
        assert (entry.header_offset + 30 + int(lengths.sum())) % 64 == 0


@pytest.mark.parametrize("kind", ["texture", "vertex colours", "plain"])
def test_the_validators_of_usd_find_nothing(quad, tmp_path, kind):
    pytest.importorskip("pxr.UsdValidation", reason="the extra usdz is not installed")
    from pxr import Usd, UsdShade, UsdValidation

    plain = dataclasses.replace(quad, uv=None, texture=None)
    colored = dataclasses.replace(plain, vertex_colors=np.full((4, 3), 0.5))
    write_usdz({"texture": quad, "vertex colours": colored, "plain": plain}[kind], tmp_path / "a.usdz")
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 5
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetMessage() for error in errors] == []
    surface = UsdShade.Shader(stage.GetPrimAtPath("/object/material/surface"))
    color = surface.GetInput("diffuseColor")
    assert (color.HasConnectedSource() if color else False) == (kind != "plain")
