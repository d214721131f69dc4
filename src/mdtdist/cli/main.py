"""``mdtdist <command>``: finds the command, runs it, turns errors into exit codes (0 ok, 1 failure, 2 wrong input)."""

import argparse
import importlib
import importlib.util
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from mdtdist import __version__
from mdtdist.errors import InputError

# One module of the same name per command, with ``add_parser(subparsers)`` and ``run(args) -> int``. A module is
# imported only when its command runs: the list below must stay quick to print.
COMMANDS = {
    "generate": "make 3D assets from images or text",
    "info": "describe a model",
    "convert": "make a model folder of student checkpoints",
    "prepare": "turn a folder of 3D files into training data",
    "train": "train a network",
    "distill": "distil a flow teacher into a few-step student",
    "plot": "draw the curves of training runs",
    "evaluate": "measure models on held-out objects",
    "report": "write tables, plots and pictures of evaluation records as one page",
    "bench": "time a model at full size, with random weights",
    "demo": "generate from example images and compare teacher and student on one page",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it worked, 2 for wrong input, 1 for any other failure, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in arguments
    logging.basicConfig(level=logging.INFO if is_debug else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run(arguments)
    except InputError as err:
        return _fail(err, "error", 2, is_debug)
    except KeyboardInterrupt as err:
        return _fail(err, "interrupted", 130, is_debug)
    except BrokenPipeError:
        return 1
    except Exception as err:
        return _fail(err, f"failed ({type(err).__name__})", 1, is_debug)


def _run(arguments: Sequence[str]) -> int:
    args = build_parser(arguments).parse_args(arguments)
    if args.command is None:
        raise InputError(f"no command was given; expected one of {', '.join(available_commands())}")
    return int(args.run(args) or 0)


def available_commands() -> list[str]:
    """The commands whose module is installed."""
    return [name for name in COMMANDS if importlib.util.find_spec(f"mdtdist.cli.{name}")]


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows the arguments of the command in ``arguments`` and the names of all others."""
    parser = Parser(prog="mdtdist", description="Few-step 3D generation from images, and everything to train it.")
    parser.add_argument("--version", action="version", version=f"mdtdist {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in available_commands():
        if name == chosen:
            module = importlib.import_module(f"mdtdist.cli.{name}")
            module.add_parser(subparsers)
            _add_common(subparsers.choices[name], module)
        else:
            subparsers.add_parser(name, help=COMMANDS[name], add_help=False)
    return parser


def _add_common(parser: argparse.ArgumentParser, module: object) -> None:
    """The options that every command has, unless it defines them itself."""
    known = {option for action in parser._actions for option in action.option_strings}
    if "--json" not in known:
        parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    if "--debug" not in known:
        parser.add_argument("--debug", action="store_true", help="print the log, and the traceback of an error")
    parser.set_defaults(run=module.run)  # type: ignore[attr-defined]


def _fail(err: BaseException, label: str, code: int, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exception(err)
    message = " ".join(str(err).split())
    hint = "" if is_debug or code != 1 else " (--debug shows where)"
    print(f"mdtdist: {label}{': ' + message if message else ''}{hint}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Our own warnings as one line; those of other packages only matter to programmers."""
    if category is UserWarning:
        print(f"mdtdist: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
