"""Config files: what is accepted, and what a wrong one says."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from mdtdist.errors import InputError
from mdtdist.models import build
from mdtdist.objectives import OBJECTIVES
from mdtdist.training.config import apply_overrides, from_dict, load_toml
from mdtdist.training.distil import DistilConfig
from mdtdist.training.flow import NETWORK_NAMES
from mdtdist.training.runs import read_config
from mdtdist.training.trainer import TrainerConfig
from tests.training.tiny import write_toml

FOLDERS = [Path(__file__).parents[2] / "recipes" / name for name in ("mini", "small")]
RECIPES = sorted(path for folder in FOLDERS for path in folder.glob("s*_*.toml"))


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 3


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float
    path: Path = Path()
    kind: Literal["a", "b"] = "a"
    interval: tuple[float, ...] = (0.0, 1.0)
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    free: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate is {self.rate}; expected a positive rate")


def test_values_become_the_types_of_the_fields():
    values = {"rate": 1, "path": "x/y", "kind": "b", "interval": [0, 1], "inner": {"width": 4}, "free": {"a": [1]}}
    built = from_dict(Outer, values)
    expected = Outer(rate=1.0, path=Path("x/y"), kind="b", interval=(0.0, 1.0), inner=Inner(width=4), free={"a": [1]})
    assert built == expected and isinstance(built.rate, float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rate": 1.0, "innr": {}}, "unknown key 'innr' in config; did you mean 'inner'"),
        ({"rate": 1.0, "inner": {"widht": 4}}, "unknown key 'widht' in config.inner; did you mean 'width'"),
        ({}, "lacks 'rate'"),
        ({"rate": "fast"}, "config.rate is 'fast'; expected float"),
        ({"rate": True}, "config.rate is True; expected float"),
        ({"rate": 1.0, "inner": {"width": 1.5}}, "config.inner.width is 1.5; expected int"),
        ({"rate": 1.0, "inner": {"width": True}}, "config.inner.width is True; expected int"),
        ({"rate": 1.0, "inner": 3}, "config.inner is 3; expected a table"),
        ({"rate": 1.0, "kind": "c"}, "config.kind is 'c'; expected one of 'a', 'b'"),
        ({"rate": 1.0, "interval": 0.5}, "config.interval is 0.5; expected a list"),
        ({"rate": 1.0, "path": 3}, "config.path is 3; expected a path"),
        ({"rate": -1.0}, "rate is -1.0; expected a positive rate"),
        (3, "config is 3; expected a table"),
    ],
)
def test_wrong_values_are_named(values, words):
    with pytest.raises(InputError) as caught:
        from_dict(Outer, values)
    assert words in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.toml.*No such file"):
        load_toml(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(InputError, match="bad.toml is not valid TOML"):
        load_toml(tmp_path / "bad.toml")


def test_overrides_are_read_as_toml_else_as_text():
    values = {"out": "a", "trainer": {"lr": 1.0}, "deep": {"er": {"x": 1}}}
    overrides = {"trainer.lr": "1e-4", "out": "runs/b", "deep.er.x": "[1, 2]", "new.flag": "true"}
    expected = {"out": "runs/b", "trainer": {"lr": 1e-4}, "deep": {"er": {"x": [1, 2]}}, "new": {"flag": True}}
    assert apply_overrides(values, overrides) == expected
    assert values == {"out": "a", "trainer": {"lr": 1.0}, "deep": {"er": {"x": 1}}}


def test_overrides_reach_only_into_tables():
    with pytest.raises(InputError, match="'lr' is 1.0, not a table"):
        apply_overrides({"trainer": {"lr": 1.0}}, {"trainer.lr.peak": "2"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"task": "flwo", "out": "x"},
            "task is 'flwo'; expected one of structure_vae, latent_vae, mesh_decoder, flow, distil",
        ),
        ({"task": "flow", "out": "x", "trainr": {}}, "unknown key 'trainr'; did you mean 'trainer'?"),
        ({"task": "distil", "out": "x", "trainer": {}, "distill": {}}, "unknown key 'distill'; did you mean 'distil'?"),
        ({"task": "flow", "trainer": {}}, "lacks 'out'"),
        ({"task": "flow", "out": 3, "trainer": {}, "flow": {}}, "out is 3"),
        ({"task": "flow", "out": "x", "trainer": 3, "flow": {}}, "trainer is 3; expected a table"),
    ],
)
def test_a_wrong_run_config_is_one_sentence(values, words, tmp_path):
    with pytest.raises(InputError) as caught:
        read_config(write_toml(tmp_path / "config.toml", values))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of fp32, bf16, fp16"),
        ({"clip_mode": "max"}, "expected one of norm, percentile"),
        ({"ema_mode": "none"}, "expected one of constant, power"),
        ({"parallel": "dp"}, "expected one of ddp, fsdp"),
        ({"tracker": "mlflow"}, "expected one of none, wandb, trackio"),
        ({"clip_percentile": 0.0}, "percentage in"),
        ({"ema": 1.0}, "decay in"),
        ({"ema_gamma": 0.0}, "exponent above 0"),
        ({"accumulate": 0}, "accumulate is 0; expected at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0; expected at least 1"),
        ({"num_samples": 1}, "at least batch_size"),
        ({"betas": (0.9,)}, "two moment decays"),
        ({"save_every": 0}, "save_every is 0; expected at least 1"),
    ],
)
def test_trainer_config_refuses(changes, words):
    with pytest.raises(ValueError, match=words):
        TrainerConfig(**{"num_samples": 8, "batch_size": 2, "lr": 1e-3, **changes})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lamda_vd": 1.0}, "did you mean 'lambda_vd'"),
        ({"normalization": {"kind": "rms"}}, "expected one of 'none', 'residual'"),
        ({"derivative": {"delta_t": 2.0}}, "delta_t is 2.0"),
    ],
)
def test_options_of_an_objective_are_checked_with_the_config(options, words):
    data = {"stage": "latent", "prepared": "p", "image_encoder": "i", "encoder": "e", "decoder": "d"}
    with pytest.raises(InputError, match=words):
        from_dict(DistilConfig, {"data": data, "teacher": "t", "options": options})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_parses_and_its_networks_can_be_built(path):
    config = read_config(path)
    assert config.out == Path("runs") / path.parent.name / path.stem
    if config.task == "flow":
        build(NETWORK_NAMES[config.settings.data.stage], **config.settings.network)
    elif config.task == "distil":
        from_dict(OBJECTIVES[config.settings.objective].config, config.settings.options)
    elif config.task == "mesh_decoder":
        build("SLatMeshDecoder", **config.settings.decoder)
    else:
        prefix = "SparseStructure" if config.task == "structure_vae" else "SLat"
        build(f"{prefix}Encoder", **config.settings.encoder)
        build(f"{prefix}{'' if config.task == 'structure_vae' else 'Gaussian'}Decoder", **config.settings.decoder)


@pytest.mark.parametrize(
    "path", [path for path in RECIPES if "_student_" in path.stem], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_students_see_the_data_of_their_teacher(path):
    teacher = read_config(path.with_name(f"{path.stem.partition('_')[0]}_flow.toml"))
    student = read_config(path)
    trained = teacher.settings.image_encoder is not None  # and exported beside the flow
    encoder = teacher.out / "image_encoder" if trained else teacher.settings.data.image_encoder
    assert student.settings.data == replace(teacher.settings.data, image_encoder=encoder)
    assert student.settings.teacher == teacher.out / "flow"
