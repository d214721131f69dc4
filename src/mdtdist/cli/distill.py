"""``mdtdist distill CONFIG [--field value ...]``: distil a flow teacher into a few-step student."""

from typing import Any

from mdtdist.cli import train


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    train.add_parser(
        subparsers, command="distill", tasks=("distil",), help="distil a flow teacher into a few-step student"
    )


run = train.run
