"""``mdtdist distill CONFIG [--teacher DIR] [--data DIR] [--field value ...]``: distil a teacher into a student."""

import argparse
import json
from pathlib import Path
from typing import Any

from mdtdist.cli import train

# The field of distil.data that --data sets, by its source.
_PLACES = {"prepared": "prepared", "trellis": "roots", "images": "images"}
_HELP = "distil a flow teacher into a few-step student"


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    train.add_parser(subparsers, command="distill", tasks=("distil",), help=_HELP)
    parser = subparsers.choices["distill"]
    parser.add_argument("--teacher", metavar="MODEL", help="model folder, hub id, or checkpoint without suffix")
    parser.add_argument("--data", metavar="DIR", help="data set, or folder of images; several with commas between")


def run(args: argparse.Namespace) -> int:
    """Set what the two shorthands stand for, then train."""
    before = [word for name in ("teacher", "data") if (value := getattr(args, name)) for word in (f"--{name}", value)]
    args.overrides = expand([*before, *args.overrides], args.config)
    return train.run(args)


def expand(words: list[str], config: Path) -> list[str]:
    """``--teacher`` and ``--data``, which may stand before or behind CONFIG, as the fields that they set."""
    expanded = []
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if name not in ("--teacher", "--data"):
            expanded.append(word)
            continue
        given = value if has_value else next(rest, None)
        # Quoted: a path must not be read as a number.
        expanded += [_field(name, config), *([] if given is None else [_quoted(given, name, config)])]
    return expanded


def _field(name: str, config: Path) -> str:
    return "--distil.teacher" if name == "--teacher" else f"--distil.data.{_PLACES[_source(config)]}"


def _quoted(value: str, name: str, config: Path) -> str:
    is_list = name == "--data" and _source(config) == "trellis"
    return json.dumps(value.split(",") if is_list else value)


def _source(config: Path) -> str:
    """Where the config says its data come from; an unknown word is refused when the config is read."""
    from mdtdist.config import load_toml

    table: Any = load_toml(config)
    for key in ("distil", "data"):
        table = table.get(key) if isinstance(table, dict) else None
    source = table.get("source") if isinstance(table, dict) else None
    return source if source in _PLACES else "prepared"
