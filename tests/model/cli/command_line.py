"""Run a command, and check a refusal."""

from click.testing import CliRunner, Result

from model.cli.main import main

VOCABULARY = 320  # entries of the models in conftest.py


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, complaint: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert complaint in lines[-1]
    assert len(lines) == (1 if not lines[0].startswith("Usage:") else 4)
    assert "Traceback" not in result.output
