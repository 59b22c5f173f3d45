"""Records the trace of the first screen anew: `python -m model.run.recorded [MODEL]` (`make recorded`)."""

import json
from pathlib import Path

import click

from model.checkpoint.embedded import PRESETS, embedded_models
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace.file import save

FOLDER = PRESETS / "recorded"


def record(engine: Engine, folder: Path = FOLDER, names: tuple[str, ...] = ("Story",)) -> list[Path]:
    """Run example prompts with the settings of the first screen, save the traces, and return their paths.

    The prompts are those of `prompts.json` in `FOLDER`; `names` selects them.
    """
    prompts = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
    variables = {"router", "attention", "inputs"} | ({"drafts"} if engine.config.has_mtp else set())
    capture, written = Capture(frozenset(variables)), []
    for name in names:
        request = RunRequest(prompt=prompts[name], max_new_tokens=48, temperature=0.7, seed=0, capture=capture)
        written.append(folder / f"{name.lower()}.safetensors")
        save(engine.run(request), written[-1])
    return written


@click.command()
@click.argument("model", required=False)
def main(model: str | None) -> None:
    """Run the first example prompt on MODEL (the first embedded one) and keep its trace for the first screen."""
    chosen = model or next(iter(embedded_models()), None)
    if chosen is None:
        raise click.UsageError("no model is embedded; name a model folder")
    for path in record(Engine.load(chosen, device="cpu")):
        click.echo(f"{path.name}  {path.stat().st_size / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
