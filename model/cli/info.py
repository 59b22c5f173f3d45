"""The command `info`: describe a model folder from its headers."""

import click

from model.cli.options import Unusable, find_folder
from model.cli.terminal import echo


@click.command("info")
@click.argument("model")
def info_command(model: str) -> None:
    """Describe MODEL from its configuration and headers, without reading its weights.

    For a folder with only config.json, the sizes are computed from the configuration.
    """
    from model.checkpoint.weights import inspect
    from model.cli.folder_report import folder_report

    folder = find_folder(model)
    manifest = inspect(folder)
    echo("\n".join(folder_report(manifest, folder)))
    if manifest.has_weights and manifest.problems:
        raise Unusable(f"{folder} cannot be loaded: {manifest.summary}")
