"""The command `sweep`: route the documents of a corpus and sum what the routers decide."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.cli.options import NEW_FOLDER
from model.cli.terminal import echo

if TYPE_CHECKING:
    pass


@click.command("sweep")
@click.argument("model")
@click.option("--texts", type=click.Path(path_type=Path), multiple=True, required=True, help="File or folder.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder of the sweep; the same command goes on in it.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", help="float32, bfloat16 or float16.")
def sweep_command(model: str, texts: tuple[Path, ...], out: Path, device: str, dtype: str | None) -> None:
    """Route the documents of TEXTS through MODEL."""
    from model.sweep.run import sweep
    from model.sweep.settings import Settings
    from model.sweep.texts import find_files

    files = tuple(str(path.resolve()) for path in find_files(texts))
    settings = Settings(model=model, paths=files, out=str(out), device=device, dtype=dtype, keep=("examples",))
    manifest = sweep(settings, on_progress=lambda p: echo(f"{p.done}/{p.shards} {p.rate}", err=True))
    echo(str(manifest.invariance))
