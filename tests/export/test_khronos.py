"""The Khronos glTF validator (npm ``gltf-validator``) finds nothing in our files; ``make test-all`` installs it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mdtdist.export import finish_mesh, write_glb
from mdtdist.export.surface import extract_surface

MODULES = Path(sys.prefix) / "gltf-validator"  # beside the packages of the environment that runs the tests
SCRIPT = """
const validator = require(process.argv[1] + "/node_modules/gltf-validator");
const content = new Uint8Array(require("fs").readFileSync(process.argv[2]));
validator.validateBytes(content).then((report) => console.log(JSON.stringify(report)));
"""


def validate(path):
    """The validator's report on a file."""
    command = ["node", "-e", SCRIPT, str(MODULES), str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


@pytest.fixture
def validator():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (MODULES / "node_modules" / "gltf-validator").is_dir():
        pytest.skip(f"run: npm install --prefix {MODULES} gltf-validator")
    return validate


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["texture", "vertex colours", "plain"])
def test_the_validator_finds_nothing(marked_box, kind, tmp_path, validator):
    logits, gaussians = marked_box
    surface = extract_surface(logits, target_faces=600)
    mesh = finish_mesh(surface, gaussians, texture_size=64 if kind == "texture" else None).mesh
    if kind == "plain":
        mesh = dataclasses.replace(mesh, vertex_colors=None)
    write_glb(mesh, tmp_path / "a.glb")
    report = validator(tmp_path / "a.glb")
    assert report["issues"]["messages"] == []
    assert report["info"]["totalTriangleCount"] == len(mesh.faces)
    assert report["info"]["hasTextures"] == (kind == "texture")


@pytest.mark.slow
def test_the_validator_would_find_something(quad, tmp_path, validator):
    write_glb(dataclasses.replace(quad, uv=quad.uv * np.nan), tmp_path / "a.glb")
    assert validator(tmp_path / "a.glb")["issues"]["numErrors"] > 0
