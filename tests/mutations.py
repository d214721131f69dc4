"""Do the tests bite? Every objective is broken on purpose, in many ways, and the tests that match are run.

    python -m tests.mutations [--only NAME ...] [--jobs 2]

A mutation replaces one piece of text in a temporary copy of ``src``: a sign is flipped, time reversed, a stop-gradient
dropped, a norm taken over other rows. One line per mutation says which test caught it; the exit status is 1 if any was
not caught. Takes about ten minutes on two cores, so ``make test`` only checks that the table below is up to date.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED_TESTS = ("tests/objectives/test_all.py", "tests/objectives/test_exact.py")
DROPPED = "if True:"  # in place of a block without gradients


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A piece of text that occurs once in a file under ``src/mdtdist``, and what takes its place."""

    file: str
    kind: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return Path(self.file).stem


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is broken in one file.

    Attributes:
        tests: its own test files, run first.
        method: name in ``OBJECTIVES`` that narrows the shared tests; all of them run if there is none.
        mutations: kind, old text, new text.
    """

    tests: tuple[str, ...]
    method: str = ""
    mutations: tuple[tuple[str, str, str], ...]


ROOMS = {
    "objectives/mdt.py": Room(
        tests=("tests/objectives/test_mdt.py",),
        method="mdt",
        mutations=(
            ("sign", "path.sample(noise - phi, renoise", "path.sample(noise + phi, renoise"),
            ("time", "phi = student(noise, torch.ones_like(t))", "phi = student(noise, torch.zeros_like(t))"),
            ("time", "weight = 1 - t if weighting", "weight = t if weighting"),
            ("detach", "with torch.no_grad():\n        x_t = path.sample", f"{DROPPED}\n        x_t = path.sample"),
            ("rows", "layout) * layout.mean(residual**2)", "layout) * (residual**2).mean()"),
            ("option", 'z if config.vd_noise == "shared" else renoise', "z"),
            ("option", "lambda x, t: teacher(x, t, w=w)", "lambda x, t: teacher(x, t)"),
        ),
    ),
    "objectives/residual.py": Room(
        tests=("tests/objectives/test_residual.py",),
        method="mdt",
        mutations=(
            ("sign", "expand(t, phi) * slope - v", "expand(t, phi) * slope + v"),
            ("sign", "residual = phi + layout", "residual = phi - layout"),
            ("sign", "(output - direction).detach()", "(output + direction).detach()"),
            ("time", "before = student(x_t - step * v, t - step)", "before = student(x_t - step * v, t + step)"),
            ("time", "torch.ones_like(t) if rate is None", "-torch.ones_like(t) if rate is None"),
            ("order", "/ (2 * step)", "/ step"),
            ("detach", "with torch.no_grad():\n        v = teacher", f"{DROPPED}\n        v = teacher"),
            ("detach", "@torch.no_grad()\ndef total_derivative", "def total_derivative"),
            ("detach", "weight.detach() * layout.mean", "weight * layout.mean"),
            ("rows", "layout.norm(slope) + normalization", "layout.rms(slope) + normalization"),
        ),
    ),
    "objectives/options.py": Room(
        tests=("tests/objectives/test_options.py",),
        mutations=(
            ("sign", "(square + self.c**2).sqrt() - self.c", "(square + self.c**2).sqrt() + self.c"),
            ("sign", "layout.mean((a - b) ** 2)", "layout.mean((a + b) ** 2)"),
            ("time", "self.p_noise, 1.0, t)", "self.p_noise, 0.0, t)"),
            ("time", "t = low + (1 - low) * kind", "t = (1 - low) * kind"),
            ("detach", "layout.rms(residual.detach())", "layout.rms(residual)"),
            ("rows", "layout.rms(residual.detach())", "layout.norm(residual.detach())"),
            ("cost", 'return 1 if self.kind == "backward" else 2', 'return 2 if self.kind == "backward" else 1'),
        ),
    ),
    "objectives/method.py": Room(
        tests=("tests/objectives/test_method.py",),
        mutations=(
            ("cost", "with_gradients = 3 * (", "with_gradients = 2 * ("),
            ("cost", "(2 if is_guided else 1) * self.teacher", "(1 if is_guided else 2) * self.teacher"),
            ("option", 'if name == "paper":\n            return self.config()', 'if name == "":\n            pass'),
        ),
    ),
    "objectives/trajectory.py": Room(
        tests=("tests/objectives/test_trajectory.py",),
        method="trajectory",
        mutations=(
            ("sign", "endpoint = x_t - layout", "endpoint = x_t + layout"),
            ("time", "torch.where(at_noise, 0, index)", "torch.where(at_noise, len(states) - 2, index)"),
            ("time", "states[-1].to(dtype)", "states[0].to(dtype)"),
            ("rows", "layout.expand(t, x_t) * fields", "t.mean() * fields"),
        ),
    ),
    "objectives/consistency.py": Room(
        tests=("tests/objectives/test_consistency.py",),
        method="consistency",
        mutations=(
            ("sign", "return x + layout.expand(end - t, x) * u", "return x - layout.expand(end - t, x) * u"),
            ("sign", "(v + teacher(x_next, t_next)) / 2", "(v - teacher(x_next, t_next)) / 2"),
            ("time", "t_next=(t - config.gap).clamp(min=0)", "t_next=(t + config.gap).clamp(max=1)"),
            ("detach", "with torch.no_grad():\n        x_next", f"{DROPPED}\n        x_next"),
            ("rows", "layout.expand(end - t, x) * u", "(end - t).mean() * u"),
            ("option", "fields.target_of(config.target)", "fields.student"),
        ),
    ),
    "objectives/phased.py": Room(
        tests=("tests/objectives/test_phased.py",),
        method="phased_consistency",
        mutations=(
            ("sign", "t**2 - (shrink * s) ** 2", "t**2 + (shrink * s) ** 2"),
            (
                "sign",
                "(pair.target, pair.prediction)",
                "(pair.prediction, pair.target)",
            ),
            ("time", "return edges[index.clamp(min=0)]", "return edges[index.clamp(min=0)] + 1 / phases"),
            ("time", "torch.maximum(t - config.gap, end)", "(t + config.gap).clamp(max=1)"),
            ("detach", "with torch.no_grad():\n        pair", f"{DROPPED}\n        pair"),
            ("rows", "layout.expand(shrink, x_s) * x_s", "shrink.mean() * x_s"),
        ),
    ),
    "objectives/scm.py": Room(
        tests=("tests/objectives/test_scm.py",),
        method="scm",
        mutations=(
            ("sign", "return -stable - warmup", "return stable - warmup"),
            ("sign", "return (u + (s.cos() - s.sin()) * x_s)", "return (u - (s.cos() - s.sin()) * x_s)"),
            ("sign", "f - (f.detach() + g)", "f - (f.detach() - g)"),
            ("time", "return torch.atan2(t, 1 - t)", "return torch.atan2(1 - t, t)"),
            ("time", "x_s = angle.cos() * x_0 + angle.sin() *", "x_s = angle.sin() * x_0 + angle.cos() *"),
            ("detach", "@torch.no_grad()\ndef scm_tangent", "def scm_tangent"),
            ("detach", "f - (f.detach() + g)", "f - (f + g)"),
            ("rows", "layout.rms(g) + offset", "layout.norm(g) + offset"),
            ("time", "dx_ds, rate=scale)", "dx_ds)"),
        ),
    ),
    "objectives/meanflow.py": Room(
        tests=("tests/objectives/test_meanflow.py",),
        method="meanflow",
        mutations=(
            ("sign", "return u - (v - layout", "return u - (v + layout"),
            ("time", "layout.expand(t - r, u) * slope", "layout.expand(t, u) * slope"),
            (
                "time",
                "torch.where(is_whole, 0.0, r), torch.where(is_whole, 1.0, t)",
                "r, torch.where(is_whole, 0.5, t)",
            ),
            ("detach", "with torch.no_grad():\n        v = teacher", f"{DROPPED}\n        v = teacher"),
            ("detach", "weight = (error.detach() +", "weight = (error +"),
            ("rows", "error = layout.mean(residual**2)", "error = (residual**2).mean() * torch.ones_like(t)"),
        ),
    ),
    "objectives/shortcut.py": Room(
        tests=("tests/objectives/test_shortcut.py",),
        method="shortcut",
        mutations=(
            ("sign", "x_middle = x_t - layout", "x_middle = x_t + layout"),
            ("time", "middle = t - half", "middle = t + half"),
            ("time", "second = target(x_middle, middle,", "second = target(x_middle, t,"),
            ("detach", "@torch.no_grad()\ndef two_half_jumps", "def two_half_jumps"),
            ("detach", "with torch.no_grad():\n        v = fields", f"{DROPPED}\n        v = fields"),
            ("rows", "layout.expand(half, x_t) * first", "half.mean() * first"),
        ),
    ),
    "objectives/guidance_distillation.py": Room(
        tests=("tests/objectives/test_guidance_distillation.py",),
        method="guidance",
        mutations=(
            ("sign", "v = teacher(x_t, t, w=w)", "v = teacher(x_t, t, w=-w)"),
            ("time", "v = teacher(x_t, t, w=w)", "v = teacher(x_t, 1 - t, w=w)"),
            ("detach", "with torch.no_grad():\n        v = teacher", f"{DROPPED}\n        v = teacher"),
            ("rows", "v = teacher(x_t, t, w=w)", "v = teacher(x_t, t, w=w.flip(0))"),
        ),
    ),
    "objectives/samples.py": Room(
        tests=("tests/objectives/test_samples.py",),
        method="dmd",
        mutations=(
            ("sign", "return x_t - t * student(", "return x_t + t * student("),
            ("time", "state = (1 - t_next) * x + t_next * noise", "state = t_next * x + (1 - t_next) * noise"),
            ("time", "return self.low + (self.high - self.low) * t,", "return self.high - (self.high - self.low) * t,"),
            ("detach", "with torch.no_grad():\n            for", f"{DROPPED}\n            for"),
            ("rows", "layout.expand(t, x).to(x.dtype))", "t.mean().to(x.dtype))"),
        ),
    ),
    "objectives/sds.py": Room(
        tests=("tests/objectives/test_sds.py",),
        method="sds",
        mutations=(
            ("sign", "residual = x_t + (1 - time)", "residual = x_t - (1 - time)"),
            ("sign", "teacher(x_t, t) - noise", "teacher(x_t, t) + noise"),
            ("time", "weight = t**2 if", "weight = (1 - t) ** 2 if"),
            ("detach", "with torch.no_grad():\n        x_t = renoise", f"{DROPPED}\n        x_t = renoise"),
        ),
    ),
    "objectives/dmd.py": Room(
        tests=("tests/objectives/test_dmd.py",),
        method="dmd",
        mutations=(
            ("sign", "direction = x_t - time * fake", "direction = x_t + time * fake"),
            ("sign", "x_0_real = x_t - time * teacher", "x_0_real = x_t + time * teacher"),
            ("time", "LinearPath().velocity(x, noise)", "LinearPath().velocity(noise, x)"),
            ("detach", "with torch.no_grad():\n        time = layout", f"{DROPPED}\n        time = layout"),
            (
                "detach",
                "with torch.no_grad():\n        return config.samples",
                f"{DROPPED}\n        return config.samples",
            ),
            (
                "rows",
                "layout.mean((samples - x_0_real).abs())",
                "torch.ones_like(t) * (samples - x_0_real).abs().mean()",
            ),
            ("option", 'return r if divergence == "forward_kl"', 'return r if divergence != "forward_kl"'),
        ),
    ),
    "objectives/ladd.py": Room(
        tests=("tests/objectives/test_ladd.py",),
        method="ladd",
        mutations=(
            ("sign", "discriminator, latents.x_0, samples,", "discriminator, samples, latents.x_0,"),
            ("sign", "adversarial_loss(discriminator, samples,", "adversarial_loss(discriminator, -samples,"),
            ("detach", "with torch.no_grad():\n        samples", f"{DROPPED}\n        samples"),
        ),
    ),
    "objectives/adversarial.py": Room(
        tests=("tests/objectives/test_ladd.py",),
        method="ladd",
        mutations=(
            ("sign", '(-logits if kind == "hinge"', '(logits if kind == "hinge"'),
            ("sign", "F.relu(1 - real) + F.relu(1 + generated)", "F.relu(1 + real) + F.relu(1 - generated)"),
            ("sign", "F.softplus(-real) + F.softplus(generated)", "F.softplus(real) + F.softplus(-generated)"),
            ("detach", "renoise(x.detach(), noise", "renoise(x, noise"),
            ("rows", "return ((logits - perturbed) ** 2).mean(1)", "return ((logits - perturbed) ** 2).mean(0)"),
        ),
    ),
    "flow/layout.py": Room(
        tests=("tests/flow/test_layout.py",),
        mutations=(
            ("rows", "return x.flatten(1).mean(1)", "return x.flatten(1).mean().expand(len(x))"),
            ("rows", "return x.flatten(1).norm(dim=1)", "return self.rms(x)"),
            ("rows", "return self._sum(x**2).sqrt()", "return self.rms(x)"),
            ("rows", " * math.prod(x.shape[1:])", ""),
            ("rows", "values[self.row_samples(like.device)]", "values.flip(0)[self.row_samples(like.device)]"),
        ),
    ),
    "flow/guidance.py": Room(
        tests=("tests/flow/test_guidance.py",),
        mutations=(
            ("sign", "(v_cond - negative(x, t))", "(negative(x, t) - v_cond)"),
            ("sign", "(1 + self.w) * v_cond - self.w * v_neg", "(1 + self.w) * v_cond + self.w * v_neg"),
            ("time", "((t >= low) & (t <= high))", "((t <= low) | (t >= high))"),
            ("option", "(guidance.w if w is None else w)", "guidance.w"),
            ("rows", "expand(weight, v_cond) *", "weight.max() *"),
        ),
    ),
    "flow/sampler.py": Room(
        tests=("tests/flow/test_sampler.py",),
        mutations=(
            ("sign", "return x - (t - t_next) * v", "return x + (t - t_next) * v"),
            ("sign", "x_0 = x - t * v", "x_0 = x + t * v"),
            ("time", "return x - (t - t_next) * v", "return x - t_next * v"),
            ("time", "        return t_next\n", "        return 0.0\n"),
            ("cost", "negative(x, batch_t, **told)), 2", "negative(x, batch_t, **told)), 1"),
        ),
    ),
    "flow/times.py": Room(
        tests=("tests/flow/test_times.py",),
        mutations=(
            ("time", "torch.linspace(1, 0,", "torch.linspace(0, 1,"),
            ("sign", "(1 + (rescale_t - 1) * t)", "(1 - (rescale_t - 1) * t)"),
            ("sign", "torch.sigmoid(self.mean + self.std", "torch.sigmoid(-self.mean + self.std"),
        ),
    ),
    "flow/path.py": Room(
        tests=("tests/flow/test_path.py",),
        mutations=(
            ("sign", "return (1 - self.sigma_min) * z - x_0", "return (1 - self.sigma_min) * z + x_0"),
            ("time", "return (1 - t) * x_0 + self.noise_scale(t) * z", "return t * x_0 + self.noise_scale(1 - t) * z"),
            ("sign", "return (1 - t) * v + x_t", "return (1 - t) * v - x_t"),
        ),
    ),
}


def mutations() -> Iterator[Mutation]:
    """All of them, in the order of the table."""
    for file, room in ROOMS.items():
        for kind, old, new in room.mutations:
            yield Mutation(file=file, kind=kind, old=old, new=new)


def caught_by(mutation: Mutation) -> str | None:
    """The first test that fails on the mutated package, or None."""
    room = ROOMS[mutation.file]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(
            ROOT / "src", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("assets", "__pycache__")
        )
        path = Path(folder, "mdtdist", mutation.file)
        path.write_text(path.read_text().replace(mutation.old, mutation.new))
        narrow = ["-k", room.method] if room.method else []
        return _first_failure(folder, room.tests) or _first_failure(folder, SHARED_TESTS, *narrow)


def _first_failure(folder: str, tests: tuple[str, ...], *options: str) -> str | None:
    """What pytest says first with the package of ``folder``; None if all tests pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests, *options]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([folder, str(ROOT)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise RuntimeError(f"the tests did not run:\n{done.stdout}{done.stderr}")
    return found[1]


def main() -> int:
    """Print a line for each mutation and a count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="files without suffix, for example mdt residual")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = [mutation for mutation in mutations() if not args.only or mutation.name in args.only]
    missed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutation, test in zip(chosen, pool.map(caught_by, chosen), strict=True):
            missed += test is None
            verdict = "NOT CAUGHT" if test is None else f"caught by {test}"
            text = " ".join(mutation.new.split()) or f"without {mutation.old.strip()}"
            print(f"{mutation.name:22} {mutation.kind:7} {text:60.60} {verdict}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
