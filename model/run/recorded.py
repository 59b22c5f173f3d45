"""Records the traces that the pages show before a visitor runs anything.

    python -m model.run.recorded [NAME]...      (`make recorded`)

`story` is the run of the first screen. `sparse` is the same text on a model whose indexer selects keys.
`counterfactual` is the story with one expert of the first MoE layer knocked out: the one with the largest gate weight
for the last token.
"""

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path

import click

from model.checkpoint.embedded import PRESETS, embedded_models
from model.run import counterfactual_file
from model.run.counterfactual import Counterfactual, Question
from model.run.engine import Engine
from model.run.interventions import KnockOut
from model.run.request import Capture, RunRequest
from model.trace import file

FOLDER = PRESETS / "recorded"


def record_story(folder: Path, model: str | Path) -> Path:
    """Run the first example prompt with the settings of the first screen; write its trace and return its path.

    Its drafts are verified, so that the Drafts tab shows an acceptance rate at once.
    """
    engine = Engine.load(model, device="cpu")
    variables = {"router", "attention", "inputs"} | ({"drafts"} if engine.config.has_mtp else set())
    path = folder / "story.safetensors"
    file.save(engine.run(_request(variables, max_new_tokens=48, verify_drafts=engine.config.has_mtp)), path)
    return path


def record_sparse(folder: Path, model: str | Path) -> Path:
    """Run the first example prompt on a model with an indexer; write its trace and return its path.

    The trace holds the variables of the Sparse attention page. Weights in bfloat16, compression and a run with fewer
    generated tokens reduce the file from 0.75 MB to 0.27 MB.
    """
    engine = Engine.load(model, device="cpu", dtype="bfloat16")
    path = folder / "sparse.safetensors.gz"
    trace = engine.run(_request({"indexer", "inputs"}, max_new_tokens=40))
    path.write_bytes(gzip.compress(file.dumps(trace), 9, mtime=0))
    return path


def record_counterfactual(folder: Path, model: str | Path) -> Path:
    """Knock out the expert that the Counterfactual page chooses at first for the story; write the result."""
    trace = file.load(folder / "story.safetensors")
    layer = trace.data["moe_layer"].values[0].item()
    change = KnockOut(layer, trace.data["expert_id"].values[-1, 0, 0].item())
    result = Counterfactual(Question.about(trace, (change,)))
    for _ in result.run(Engine.load(model, device="cpu"), threading.Event()):
        pass
    path = folder / "counterfactual.safetensors.gz"
    path.write_bytes(counterfactual_file.dumps(result))
    return path


def _request(variables: set[str], max_new_tokens: int, verify_drafts: bool = False) -> RunRequest:
    prompts = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
    prompt, capture = next(iter(prompts.values())), Capture(frozenset(variables))
    return RunRequest(
        prompt=prompt, max_new_tokens=max_new_tokens, temperature=0.7, seed=0, capture=capture,
        verify_drafts=verify_drafts,
    )  # fmt: skip


# Name of an example -> the function that records it, and the embedded model to run.
EXAMPLES: dict[str, tuple[Callable[[Path, str | Path], Path], str]] = {
    "story": (record_story, "mini-v3"),
    "sparse": (record_sparse, "mini-v32"),
    "counterfactual": (record_counterfactual, "mini-v3"),
}


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(EXAMPLES)))
def main(names: tuple[str, ...]) -> None:
    """Record the named examples; without a name, all examples."""
    for name in names or EXAMPLES:
        record, model = EXAMPLES[name]
        if model not in embedded_models():
            raise click.UsageError(f"{name} needs the embedded model {model}, which is not installed")
        path = record(FOLDER, model)
        click.echo(f"{path.name}  {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
