"""The command line: `python -m model COMMAND`.

Exit status: 0: done; 1: a requested check failed; 2: unusable input, with one line on stderr, no traceback and no
output file. A command imports what it needs when it runs, so that `--help` loads no torch.
"""

import importlib
from typing import Any

import click

from model.cli.options import Unusable, explain
from model.cli.terminal import escaped

# Module of each command; the command there is NAME_command.
_MODULES = {
    "compare": "model.cli.compare",
    "curate": "model.cli.curate",
    "doctor": "model.cli.doctor",
    "evaluate": "model.cli.evaluate",
    "import": "model.cli.import_file",
    "info": "model.cli.info",
    "tokenize": "model.cli.tokenize",
    "trace": "model.cli.trace",
    "train": "model.cli.train",
}


class Commands(click.Group):
    """Import a command when it is needed, and print our own errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        return getattr(importlib.import_module(_MODULES[cmd_name]), f"{cmd_name}_command")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = escaped(error.message)  # which click declares final
            raise
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            line = explain(error)
            if line is None:
                raise
            raise Unusable(escaped(line)) from None


@click.group(cls=Commands)
def main() -> None:
    """MoE Loupe: see to which experts a mixture-of-experts model routes every token.

    MODEL is the name of an embedded model or a folder in the Hugging Face layout.
    """
