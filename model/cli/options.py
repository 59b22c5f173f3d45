"""Option types, the error for unusable input, and checks of files and folders; several commands use them."""

import codecs
from pathlib import Path
from typing import Any

import click

from model.cli.terminal import echo

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


class Unusable(click.ClickException):
    """Unusable input; the command ends with status 2."""

    exit_code = 2


def explain(error: BaseException) -> str | None:
    """Return one line for an error that the user can fix; None for an error in this program."""
    if isinstance(error, ValueError) and type(error).__module__.startswith("model."):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory; use a smaller dtype, a shorter prompt, or capture less"
    return None


class Numbers(click.ParamType):
    """Comma-separated whole numbers of at least 0."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not _are_whole(parts):
            self.fail(f"{value!r} is not a list of whole numbers such as 3,4", param, ctx)
        return tuple(int(part) for part in parts)


class LayerNumber(click.ParamType):
    """A layer number and the number of an expert or group in that layer, for example 3:17."""

    def __init__(self, item: str) -> None:
        self._item, self.name = item, f"LAYER:{item.upper()}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        parts = value.split(":")
        if len(parts) != 2 or not _are_whole(parts):
            self.fail(f"{value!r} is not a layer and its {self._item} such as 3:17", param, ctx)
        return int(parts[0]), int(parts[1])


def _are_whole(parts: list[str]) -> bool:
    return all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)


def read_prompt(path: Path) -> str:
    """Return the text of a prompt file; if it begins with a byte order mark, remove the mark and print a note.

    Raises:
        Unusable: the file is not UTF-8.
        OSError: the file cannot be read, is no ordinary file, or is larger than 50 MB.
    """
    from model.trace.limits import MOST_TEXT_BYTES
    from model.trace.ordinary import read_ordinary

    content = read_ordinary(path, MOST_TEXT_BYTES)
    if content.startswith(codecs.BOM_UTF8):
        echo(f"note: {path} begins with a byte order mark, which is left out", err=True)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"{path} is not UTF-8 text (byte {error.start})") from None


def find_folder(model: str, *others: str) -> Path:
    """Return the folder of a model.

    Args:
        model: name of an embedded model, or a folder.
        others: inputs that the command accepts besides a model; the error names them.

    Raises:
        Unusable: `model` is neither a folder nor the name of an embedded model.
    """
    from model.checkpoint.embedded import embedded_models, find_model

    folder = find_model(model)
    if not folder.is_dir():
        choices = (*others, "a folder", f"an embedded model ({', '.join(embedded_models()) or 'none'})")
        raise Unusable(f"{model} is neither {' nor '.join(choices)}")
    return folder


def check_destination(out: Path) -> None:
    """Raise an error if an output file cannot be written; call it before any work is done.

    Raises:
        Unusable: the folder of the file does not exist, or `out` is a folder, a pipe or a device.
    """
    if not out.parent.is_dir():
        raise Unusable(f"the folder {out.parent} does not exist; make it first")
    if out.is_dir():
        raise Unusable(f"{out} is a folder; give the name of a file")
    if out.exists() and not out.is_file():  # the new file would replace it, even /dev/null
        raise Unusable(f"{out} is a pipe or a device; give the name of a file")
