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
    from model.families.choose import TRANSFORMERS, engine_for

    folder = find_folder(model)
    if (folder / "config.json").is_file() and engine_for(folder) == TRANSFORMERS:
        from model.cli.family_report import family_report
        from model.families.facts import facts_of

        echo("\n".join(family_report(facts_of(folder), folder)))
        return
    manifest = inspect(folder)
    echo("\n".join(folder_report(manifest, folder)))
    if manifest.has_weights and manifest.problems:
        raise Unusable(f"{folder} cannot be loaded: {manifest.summary}")
