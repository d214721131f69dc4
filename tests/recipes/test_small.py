"""``recipes/small/run.py`` and ``make_bundle.py``: the stages in order, what is left out, and generated objects."""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from mdtdist.data.bundle import list_bundle, write_bundle
from mdtdist.data.small import turned
from mdtdist.training.runs import read_config

FOLDER = Path(__file__).parents[2] / "recipes" / "small"


def load(name: str):
    """A script under a name of its own: other recipes have one called the same."""
    spec = importlib.util.spec_from_file_location(f"small_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small():
    """The two scripts."""
    return {name: load(name) for name in ("run", "make_bundle")}


def test_every_training_has_a_config_and_follows_what_it_reads(small):
    names = [stage.name for stage in small["run"].STAGES]
    for path in FOLDER.glob("s*_*.toml"):
        settings = read_config(path).settings
        data = getattr(settings, "data", None)
        read = [getattr(data, "encoder", None), getattr(data, "decoder", None), getattr(data, "image_encoder", None)]
        read += [getattr(settings, name, None) for name in ("encoder", "teacher", "student")]
        for needed in (item for item in read if isinstance(item, Path)):
            assert names.index(needed.parent.name) < names.index(path.stem), (path.stem, needed)
    assert set(names) >= {path.stem for path in FOLDER.glob("s*_*.toml")}


def test_commands_are_those_a_user_would_type(small, tmp_path):
    run = small["run"]
    stages = {stage.name: stage for stage in run.STAGES}
    words = run.command_of(stages["ss_flow"], root=run.ROOT, device="cuda", dry=False)
    assert words == ["mdtdist", "train", str(FOLDER / "ss_flow.toml"), "--trainer.device", "cuda"]
    dry = run.command_of(stages["slat_student_endpoint"], root=tmp_path, device="cpu", dry=True)
    assert dry[:2] == ["mdtdist", "distill"] and dry[-2:] == ["--distil.trajectories.num_batches", "2"]
    assert read_config(Path(dry[2])).settings.student == tmp_path / "slat_student_ours" / "student"
    evaluate = run.command_of(stages["evaluate"], root=Path("a"), device="cpu", dry=False)
    assert evaluate[evaluate.index("--also") + 1] == "VM+VD (paper)=a/model_paper"


def test_stages_with_a_result_are_left_out(small, tmp_path):
    run = small["run"]
    (tmp_path / "ss_vae").mkdir()
    (tmp_path / "ss_vae" / "ss_dec.safetensors").touch()
    assert [stage.name for stage in run.chosen(["slat_vae", "ss_vae"], tmp_path)] == ["slat_vae"]
    assert [stage.name for stage in run.chosen([], tmp_path)][:3] == ["objects", "generated", "data"]
    with pytest.raises(SystemExit, match="unknown stage 'ss_vea'"):
        list(run.chosen(["ss_vea"], tmp_path))


def test_a_command_is_asked_to_stop_at_the_deadline(small):
    run = small["run"]
    start = time.monotonic()
    assert run.run_until(["python", "-c", "import time; time.sleep(30)"], start) is None
    assert time.monotonic() - start < 20
    assert run.run_until(["python", "-c", "raise SystemExit(3)"], float("inf")) == 3


def test_a_dry_run_does_not_touch_the_real_results(small, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--dry-run"])
    with pytest.raises(SystemExit):
        small["run"].main()
    assert "give another --root" in capsys.readouterr().err


def test_generated_objects_are_for_training_and_come_in_one_turn(small, tmp_path):
    bundle = tmp_path / "generated.bundle"
    packed = write_bundle(bundle, small["make_bundle"].generated_objects(3))
    assert len(packed) == 3 and bundle.stat().st_size < 300_000
    items = turned(list_bundle(bundle), train_turns=6)
    assert len(items) == 3 and {item.metadata["split"] for item in items} == {"train"}
    again = [asset.sha256 for asset, _ in small["make_bundle"].generated_objects(3)]
    assert [item.metadata["object"] for item in items] == again
