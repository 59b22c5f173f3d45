"""What commands have in common: unusable input, numbers, a prompt from a file, a model's folder, where to write."""

from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


class Unusable(click.ClickException):
    """Input that no command can work with."""

    exit_code = 2


class Numbers(click.ParamType):
    """Whole numbers from 0 on, with commas between them."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not _are_whole(parts):
            self.fail(f"{value!r} is not a list of whole numbers such as 3,4", param, ctx)
        return tuple(int(part) for part in parts)


class LayerNumber(click.ParamType):
    """A layer and the number of something in it, such as 3:17."""

    def __init__(self, what: str) -> None:
        self.what, self.name = what, f"LAYER:{what.upper()}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        parts = value.split(":")
        if len(parts) != 2 or not _are_whole(parts):
            self.fail(f"{value!r} is not a layer and its {self.what} such as 3:17", param, ctx)
        return int(parts[0]), int(parts[1])


def _are_whole(parts: list[str]) -> bool:
    return all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)


def read_prompt(path: Path) -> str:
    """The text of a prompt file.

    Raises:
        Unusable: it is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unusable(f"{path} is not UTF-8 text (byte {error.start})") from None


def find_folder(model: str, *others: str) -> Path:
    """The folder of MODEL, which is the name of an embedded model or a folder.

    Args:
        model: as it was given.
        others: what else the command would have taken, in words.

    Raises:
        Unusable: it is neither.
    """
    from model.checkpoint.embedded import embedded_models, find_model

    folder = find_model(model)
    if not folder.is_dir():
        known = (*others, "a folder", f"an embedded model ({', '.join(embedded_models()) or 'none'})")
        raise Unusable(f"{model} is neither {' nor '.join(known)}")
    return folder


def check_destination(out: Path) -> None:
    """Refuse a file that could not be written, before any work is done for it.

    Raises:
        Unusable: its folder does not exist, or it is a folder itself.
    """
    if not out.parent.is_dir():
        raise Unusable(f"the folder {out.parent} does not exist; make it first")
    if out.is_dir():
        raise Unusable(f"{out} is a folder; give the name of a file")
