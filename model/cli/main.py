"""The command line: `python -m model COMMAND`.

Exit status: 0: done; 1: a requested check failed; 2: unusable input; 3: a fault of this program; 130: stopped by
Ctrl-C; 141: the program that reads the output has ended. An error prints one line to stderr, or a traceback with
`--debug`, and writes no output file. A command imports its modules when it runs, so `--help` does not import torch.
"""

import importlib
import warnings
from typing import Any

import click

from model.cli.options import Unusable, explain
from model.cli.terminal import drop_broken_streams, escaped

# Command -> its module, which defines the command as NAME_command.
_MODULES = {
    "compare": "model.cli.compare",
    "curate": "model.cli.curate",
    "doctor": "model.cli.doctor",
    "evaluate": "model.cli.evaluate",
    "import": "model.cli.import_file",
    "info": "model.cli.info",
    "place": "model.cli.place",
    "plan": "model.cli.plan",
    "report": "model.cli.report",
    "sweep": "model.cli.sweep",
    "tokenize": "model.cli.tokenize",
    "trace": "model.cli.trace",
    "train": "model.cli.train",
}


class Fault(click.ClickException):
    """A fault of this program; the command ends with status 3."""

    exit_code = 3


class Interrupted(click.ClickException):
    """Ctrl-C stopped the command; it ends with status 130, as shells expect."""

    exit_code = 130


class Commands(click.Group):
    """The group of all commands: it imports a command when it is needed, and prints every error as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        return getattr(importlib.import_module(_MODULES[cmd_name]), f"{cmd_name}_command")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = escaped(error.message)  # which click declares final
            raise
        except (SystemExit, GeneratorExit, click.Abort, click.exceptions.Exit):
            raise
        except BaseException as error:  # the panics of Rust libraries are no Exception
            drop_broken_streams()
            if ctx.params["debug"]:
                raise
            raise _in_one_line(error) from None

    def _invoke(self, ctx: click.Context) -> Any:
        """Run the command without NumPy's warnings: those about NaN or overflow in damaged files do not help a user."""
        with warnings.catch_warnings():
            if not ctx.params["debug"]:
                warnings.simplefilter("ignore", RuntimeWarning)
            return super().invoke(ctx)


def _in_one_line(error: BaseException) -> BaseException:
    """Return the exception that makes click print an error in one line, and exit with the status of that error."""
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("stopped by Ctrl-C; a file that was not finished was not written")
    if isinstance(error, BrokenPipeError):
        return SystemExit(141)  # as a shell reports the signal
    line = explain(error)
    if line is not None:
        return Unusable(escaped(line))
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Fault(
        escaped(
            f"a fault of this program ({what}); no output file was written; please report it with the traceback, "
            "which `python -m model --debug COMMAND ...` prints"
        )
    )


@click.group(cls=Commands)
@click.option("--debug", is_flag=True, help="Print the traceback of an error instead of one line.")
def main(debug: bool) -> None:
    """MoE Loupe: see to which experts a mixture-of-experts model routes every token.

    MODEL is the name of an embedded model or a folder in the Hugging Face layout.
    """
