"""The dispatcher: commands, help and exit codes."""

import json
import sys
import types

import pytest

from mdtdist import __version__
from mdtdist.cli import main as cli
from mdtdist.cli.main import main
from tests.pipelines.tiny import write_pipeline


@pytest.fixture
def command(monkeypatch):
    """Install a command ``demo`` whose behaviour is the returned function's ``run``."""
    module = types.ModuleType("mdtdist.cli.demo")
    module.add_parser = lambda subparsers: subparsers.add_parser("demo").add_argument("--count", type=int, default=1)
    module.run = lambda args: 0
    monkeypatch.setitem(sys.modules, "mdtdist.cli.demo", module)
    monkeypatch.setattr(cli, "available_commands", lambda: ["demo", "generate", "info"])
    return module


def test_every_command_is_listed_without_loading_it(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("generate", "info"))


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"mdtdist {__version__}"


def test_command_gets_its_arguments_and_the_common_ones(command):
    seen = []
    command.run = lambda args: seen.append((args.count, args.json, args.debug))
    assert main(["demo", "--count", "3", "--json"]) == 0
    assert seen == [(3, True, False)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "no command"), (["bake"], "invalid choice: 'bake'"), (["demo", "--count", "x"], "invalid int value: 'x'")],
)
def test_wrong_usage_is_one_sentence(command, arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


def test_other_failures_are_short_and_traced_on_demand(command, capsys):
    def fail(args):
        raise OSError("the disk\nis full")

    command.run = fail
    assert main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error == "mdtdist: failed (OSError): the disk is full (--debug shows where)\n"
    assert main(["demo", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interruption_has_its_own_code(command):
    def interrupt(args):
        raise KeyboardInterrupt

    command.run = interrupt
    assert main(["demo"]) == 130


def test_info_describes_a_model(tmp_path, capsys):
    folder = write_pipeline(tmp_path / "model")
    assert main(["info", str(folder), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["flows"] == ["student", "teacher"]
    network = description["networks"]["slat_decoder_gs"]
    assert network["class"] == "ElasticSLatGaussianDecoder" and network["parameters"] > 1000
    assert description["samplers"]["teacher"]["structure"]["params"]["steps"] == 5
    assert main(["info", str(folder)]) == 0
    assert "slat_flow_model_student" in capsys.readouterr().out


def test_info_of_an_unknown_model_is_wrong_input(capsys):
    assert main(["info", "maxi"]) == 2
    assert "unknown" in capsys.readouterr().err


def test_info_without_a_model_lists_the_shipped_ones(capsys):
    assert main(["info", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)
