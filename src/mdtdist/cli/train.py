"""``mdtdist train CONFIG [--field value ...]``: run a training from a TOML file; an interrupted run goes on."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

TASKS = ("structure_vae", "latent_vae", "mesh_decoder", "flow")
HELP = "train a network"


def add_parser(subparsers: Any, *, command: str = "train", tasks: tuple[str, ...] = TASKS, help: str = HELP) -> None:
    """Add the command's arguments; ``distill`` is the same command for other tasks."""
    parser = subparsers.add_parser(command, help=help, description=f"{help}; tasks: {', '.join(tasks)}")
    parser.add_argument("config", metavar="CONFIG", type=Path, help="TOML file, for example recipes/mini/ss_flow.toml")
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--FIELD VALUE",
        help="replace fields of the config, dotted: --trainer.lr 1e-4 --out runs/other",
    )
    parser.set_defaults(tasks=tasks)


def run(args: argparse.Namespace) -> int:
    """Train to the end of the budget, then draw the curves."""
    from tqdm import tqdm

    from mdtdist.errors import InputError
    from mdtdist.training import plot_run, read_config
    from mdtdist.training import run as run_training

    overrides = take_flags(args)
    config = read_config(args.config, parse_overrides(overrides))
    if config.task not in args.tasks:
        other = "distill" if config.task == "distil" else "train"
        raise InputError(f"{args.config} has the task '{config.task}'; run it with `mdtdist {other}`")
    # With a delay the bar appears at the first step, not above an error in the data or networks.
    with tqdm(total=config.trainer.num_steps, unit="step", disable=args.json, delay=0.1) as bar:

        def progress(step: int, total: int, text: str) -> None:
            if not text:
                start_bar(bar, step)
            bar.set_postfix_str(text, refresh=False)
            bar.update(step - bar.n)

        figures = run_training(args.config, config, progress)
    if int(os.environ.get("RANK", "0")):  # one of several processes, which the main one speaks for
        return 0
    try:
        picture = str(plot_run(config.out))
    except InputError as err:  # the training itself is done and exported
        picture = f"not drawn: {err}"
    if args.json:
        print(json.dumps({"out": str(config.out), **figures}))
    else:
        print(f"{config.out}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        print(f"curves: {picture}")
    return 0


def start_bar(bar: Any, step: int) -> None:
    """Measure time from ``step`` on: neither reading the data nor an earlier command tells how fast the steps are."""
    bar.reset()
    bar.initial = bar.n = bar.last_print_n = step


def take_flags(args: argparse.Namespace) -> list[str]:
    """The overrides without the common flags, which may stand behind CONFIG as well."""
    args.json = args.json or "--json" in args.overrides
    return [word for word in args.overrides if word not in ("--json", "--debug")]


def parse_overrides(words: list[str]) -> dict[str, str]:
    """``--a.b value`` or ``--a.b=value`` as a mapping.

    Raises:
        InputError: if the words are not pairs.
    """
    from mdtdist.errors import InputError

    overrides = {}
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        given = value if has_value else next(rest, None)
        if not name.startswith("--") or given is None:
            raise InputError(f"'{word}' is not a pair like --trainer.lr 1e-4; give every field a value")
        overrides[name[2:].replace("-", "_")] = given
    return overrides
