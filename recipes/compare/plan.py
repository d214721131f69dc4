"""The plan of the comparison: methods, budgets and learning rates from ``methods.toml``, and the runs they make."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdtdist.flow import Guidance, time_grid
from mdtdist.objectives import OBJECTIVES
from mdtdist.training.distil import merge_options

HERE = Path(__file__).parent
STAGES = ("structure", "latent")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: also the name of its folder.
        label: what the tables call it.
        objective, variant, options: of ``mdtdist.objectives``.
        settings: further fields of ``[distil]``.
        note: one sentence for the page.
    """

    name: str
    label: str
    objective: str
    variant: str = "paper"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def config(self) -> Any:
        """The options of the method."""
        return merge_options(self.objective, self.variant, self.options)


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One flow of the teacher.

    Attributes:
        budget: compute of a run, in forwards of one sample.
        batch_size, lr, ema: of the trainer.
        lrs: learning rates tried for every method, in units of ``lr``.
        distil: fields of ``[distil]`` that all methods share.
    """

    name: str
    budget: int
    batch_size: int
    lr: float
    ema: float
    distil: dict[str, Any]
    lrs: tuple[float, ...] = (0.3, 1.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the comparison."""

    stage: StagePlan
    method: Method
    lr: float
    seed: int
    folder: Path
    plan: Path

    @property
    def num_steps(self) -> int:
        """Steps that the budget pays for, the sampling of stored trajectories included."""
        batches = self.stage.budget // self.stage.batch_size
        if "trajectories" in self.method.settings:
            batches -= self._trajectories["num_batches"] * self._sampling
        return int(batches // self.method.config.cost.forwards(is_guided=True))

    @property
    def _trajectories(self) -> dict[str, Any]:
        """The stored trajectories: ``share`` of the budget goes into sampling them."""
        values = dict(self.method.settings["trajectories"])
        share = values.pop("share")
        values["num_batches"] = max(1, int(share * self.stage.budget / self.stage.batch_size / self._sampling))
        return values

    @property
    def _sampling(self) -> int:
        """Forwards of one trajectory."""
        values = self.method.settings["trajectories"]
        low, high = self.stage.distil["guidance_interval"]
        guidance = Guidance(w=self.stage.distil["guidance"], interval=(low, high))
        times = time_grid(values["steps"], rescale_t=values["rescale_t"]).tolist()[:-1]
        return sum(2 if guidance.is_active(t) else 1 for t in times)

    def config(self) -> dict[str, Any]:
        """The tables of its TOML file."""
        stage, steps = self.stage, self.num_steps
        settings = {key: value for key, value in self.method.settings.items() if key != "trajectories"}
        if "trajectories" in self.method.settings:
            settings["trajectories"] = self._trajectories
        return {
            "task": "distil",
            "out": str(self.folder),
            "trainer": {
                "num_samples": steps * stage.batch_size,
                "batch_size": stage.batch_size,
                "lr": self.lr,
                "warmup": 0.05,
                "final_lr": 0.03,
                "ema": stage.ema,
                "seed": self.seed,
                "log_every": max(1, steps // 100),
                "eval_every": 1_000_000,
                "save_every": 50,
            },
            "distil": {
                **stage.distil,
                **settings,
                "objective": self.method.objective,
                "variant": self.method.variant,
                "options": self.method.options,
            },
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything the comparison does.

    Attributes:
        path: of its TOML file.
        out: where trainings and results are kept.
        seeds: of trainings and of the noise they are measured with; the first one's runs choose the learning rates.
        num_objects: test objects; None for all.
        stages, methods: what is trained.
    """

    path: Path
    out: Path
    seeds: tuple[int, ...]
    num_objects: int | None
    stages: dict[str, StagePlan]
    methods: tuple[Method, ...]

    def sweep(self, stage: str) -> Iterator[Run]:
        """The runs of the first seed that choose the learning rate of each method."""
        for method in self.methods:
            for factor in self.stages[stage].lrs:
                yield self.run(stage, method, factor, self.seeds[0])

    def chosen(self, stage: str) -> dict[str, float]:
        """The learning rates that the sweep chose, over that of the stage; empty before."""
        path = self.out / stage / "chosen.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def final(self, stage: str, factors: dict[str, float]) -> Iterator[Run]:
        """The runs that are compared, at the chosen learning rates; those of the first seed are of the sweep."""
        for seed in self.seeds:
            for method in self.methods:
                if method.name in factors:
                    yield self.run(stage, method, factors[method.name], seed)

    def teacher_validation(self, stage: str) -> Path:
        """Where the validation of the unguided teacher in few steps is kept."""
        return self.out / stage / "teacher.json"

    def run(self, stage: str, method: Method, factor: float, seed: int) -> Run:
        """One training; ``factor`` is its learning rate over that of the stage."""
        plan = self.stages[stage]
        folder = self.out / stage / method.name / f"lr{plan.lr * factor:.0e}_seed{seed}"
        return Run(stage=plan, method=method, lr=plan.lr * factor, seed=seed, folder=folder, plan=self.path)


def read_plan(path: Path = HERE / "methods.toml", *, only: Sequence[str] | None = None) -> Plan:
    """The plan in a TOML file; ``only`` names the methods to keep."""
    values = tomllib.loads(path.read_text())
    stages = {name: _stage(name, values["stage"][name]) for name in STAGES}
    methods = tuple(Method(**entry) for entry in values["method"] if only is None or entry["name"] in only)
    for method in methods:
        if method.objective not in OBJECTIVES:
            raise SystemExit(f"{path}: objective '{method.objective}' of {method.name} is not known")
    return Plan(
        path=path,
        out=Path(values["out"]),
        seeds=tuple(values["seeds"]),
        num_objects=values.get("num_objects"),
        stages=stages,
        methods=methods,
    )


def _stage(name: str, values: dict[str, Any]) -> StagePlan:
    lrs = {"lrs": tuple(values["lrs"])} if "lrs" in values else {}
    return StagePlan(name=name, **values | lrs)


def write_toml(path: Path, values: dict[str, Any]) -> None:
    """Nested tables as TOML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_lines(values, "")) + "\n")


def _lines(values: dict[str, Any], prefix: str) -> list[str]:
    plain = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    tables = {f"{prefix}{key}": value for key, value in values.items() if isinstance(value, dict)}
    return plain + [line for key, value in tables.items() for line in [f"[{key}]", *_lines(value, f"{key}.")]]
