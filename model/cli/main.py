"""The command line: `python -m model COMMAND`.

Exit status: 0 done; 1 a check that was asked for did not hold; 2 unusable input, said in one line on stderr, without a
traceback and without an output file. What a command needs is imported when it runs, so that `--help` needs no torch.
"""

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.cli.changes import change_options, interventions
from model.cli.options import Numbers, Unusable, check_destination, find_folder, read_prompt, request_options

if TYPE_CHECKING:
    from model.run.engine import Engine
    from model.run.request import Capture, RunRequest
    from model.run.step import Progress
    from model.trace.trace import Trace

_MODULES = {
    "compare": "model.cli.compare",
    "curate": "model.cli.curate",
    "doctor": "model.cli.doctor",
    "evaluate": "model.cli.evaluate",
    "import": "model.cli.import_file",
    "info": "model.cli.info",
    "tokenize": "model.cli.tokenize",
    "train": "model.cli.train",
}  # of each command; its function there is NAME_command


class Commands(click.Group):
    """Finds commands that live in other modules, and turns our own errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _MODULES:
            return getattr(importlib.import_module(_MODULES[cmd_name]), f"{cmd_name}_command")
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            line = _explain(error)
            if line is None:
                raise
            raise Unusable(line) from None


def _explain(error: Exception) -> str | None:
    """One line for an error that the user can do something about; None for one that is a mistake of ours."""
    if isinstance(error, ValueError) and type(error).__module__.startswith("model."):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory; use a smaller dtype, a shorter prompt, or capture less"
    return None


@click.group(cls=Commands)
def main() -> None:
    """MoE Loupe: see where a mixture of experts sends every token.

    MODEL is the name of an embedded model, or a folder in the Hugging Face layout.
    """


@main.command()
@click.argument("model")
@request_options
@click.option("--prompt-file", type=click.Path(path_type=Path), help="A UTF-8 file that holds the prompt.")
@click.option("--ids", type=Numbers(), help="Token ids, fed exactly as they are.")
@click.option(
    "--capture", default="router", show_default=True, help="Of router,attention,indexer,inputs,logits,drafts."
)
@click.option("--layers", type=Numbers(), help="Record attention and indexer of these layers only.")
@click.option("--heads", type=Numbers(), help="Record attention of these heads only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16.")
@change_options
@click.option(
    "--stream", is_flag=True, help="Read the weights from the disk layer by layer; can be stopped and resumed."
)
@click.option("--shard", is_flag=True, help="Spread the layers over the GPUs of this machine; needs accelerate.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The trace file to write.")
def trace(
    model: str,
    out: Path,
    device: str,
    dtype: str,
    prompt_file: Path | None,
    prompt: str | None,
    stream: bool,
    shard: bool,
    **options: Any,
) -> None:
    """Run MODEL once, write what was seen to a trace file, and print a short table.

    With --stream a model that does not fit in memory is run, a prompt without new tokens. Ctrl-C stops such a run after
    the layer that is being computed; the same command goes on from there.
    """
    if stream and shard:
        raise click.UsageError("Give one of --stream and --shard.")
    check_destination(out)
    text, folder = _prompt(prompt, prompt_file, options["ids"]), find_folder(model)
    request = _request(text, options, folder)
    from model.cli.run_report import run_report
    from model.run.engine import Engine, spare_cores
    from model.trace.file import save

    started = time.perf_counter()
    if stream:
        spare_cores(1)  # for the thread that reads ahead
        finished = _streamed(Engine.from_disk(folder, device=device, dtype=dtype), request, out)
    else:
        engine = Engine.load(folder, device=device, dtype=dtype, shard=shard)
        started = time.perf_counter()
        finished = engine.run(request)
    seconds = time.perf_counter() - started
    save(finished, out)
    click.echo("\n".join([*run_report(finished, seconds), f"written to {out}"]))


def _streamed(engine: "Engine", request: "RunRequest", out: Path) -> "Trace":
    """Run from disk with a progress bar; what was done is kept beside `out` until the run is over."""
    import signal
    import threading

    from tqdm import tqdm

    cancel = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda number, frame: cancel.set())
    partial = engine.open_partial(out.with_name(f"{out.name}.partial"), request)
    try:
        with tqdm(total=engine.config.num_layers, initial=partial.layers_done, desc="layers", unit="layer") as bar:

            def show(progress: "Progress") -> None:
                bar.set_postfix_str(f"{progress.bytes_read / 1e9:.2f} GB, {progress.bytes_per_second / 1e9:.2f} GB/s")
                bar.update()

            finished = engine.run(request, cancel, show, partial)
    finally:
        signal.signal(signal.SIGINT, previous)
    partial.remove()
    return finished


def _prompt(prompt: str | None, prompt_file: Path | None, ids: tuple[int, ...] | None) -> str | None:
    if sum(given is not None for given in (prompt, prompt_file, ids)) != 1:
        raise click.UsageError("Give one of --prompt, --prompt-file and --ids.")
    return prompt if prompt_file is None else read_prompt(prompt_file)


def _request(prompt: str | None, options: dict[str, Any], folder: Path) -> "RunRequest":
    from model.run.request import FIELDS, RunRequest

    fields = {name: options[name] for name in FIELDS if name != "prompt"}
    return RunRequest(
        prompt=prompt,
        token_ids=options["ids"],
        capture=_capture(options),
        interventions=interventions(options, folder),
        **fields,
    )


def _capture(options: dict[str, Any]) -> "Capture":
    from model.run.request import Capture

    names = frozenset(name.strip() for name in options["capture"].split(",") if name.strip())
    return Capture(names, options["layers"], options["heads"])
