"""The command `trace`: run a model once and write a trace file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.cli.changes import change_options, interventions
from model.cli.options import Numbers, check_destination, find_folder, read_prompt
from model.cli.terminal import echo
from model.families.choose import ENGINES, OWN, engine_for, load
from model.run.request import CAPTURE_NAMES, FIELDS, Capture, RunRequest
from model.run.request_fields import RequestField

if TYPE_CHECKING:
    from model.run.engine import Engine
    from model.run.partial import Partial
    from model.run.step import Progress
    from model.trace.trace import Trace


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with an option for every field of a request, named like the field; a decorator."""
    for field in reversed(FIELDS.values()):
        command = _option(field)(command)
    return command


def _option(field: RequestField) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        field.option,
        field.name,
        type=click.IntRange(*field.option_range) if field.kind is int else field.kind,
        is_flag=field.kind is bool,
        default=field.default,
        show_default=field.kind in (int, float),
        help=field.option_help or field.help,
    )


@click.command("trace")
@click.argument("model")
@request_options
@click.option("--prompt-file", type=click.Path(path_type=Path), help="UTF-8 file with the prompt.")
@click.option("--parse-special", is_flag=True, help="Read special tokens that the prompt spells; without it, as text.")
@click.option("--ids", type=Numbers(), help="Token ids to run as they are; no BOS is added.")
@click.option(
    "--capture",
    default="router",
    show_default=True,
    help=f"Variables to record: {','.join(CAPTURE_NAMES)}.",
)
@click.option("--layers", type=Numbers(), help="Record attention and indexer in these layers only.")
@click.option("--heads", type=Numbers(), help="Record attention of these heads only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", help="float32, bfloat16 or float16; if not given, float32 or, by transformers, as published.")
@click.option("--engine", type=click.Choice(ENGINES), help="What runs the model; without it, chosen by its model type.")
@change_options
@click.option("--stream", is_flag=True, help="Read the weights from disk layer by layer; can be stopped and resumed.")
@click.option("--shard", is_flag=True, help="Spread the layers over the GPUs of this machine.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The trace file to write.")
def trace_command(
    model: str,
    out: Path,
    device: str,
    dtype: str | None,
    engine: str | None,
    prompt_file: Path | None,
    prompt: str | None,
    parse_special: bool,
    stream: bool,
    shard: bool,
    **options: Any,
) -> None:
    """Run MODEL once, write a trace file, and print the load of each MoE layer.

    --stream runs a prompt through a model that does not fit in memory; it generates no tokens. Ctrl-C stops the run
    after the current layer, and the same command resumes it.
    """
    if stream and shard:
        raise click.UsageError("Give one of --stream and --shard.")
    check_destination(out)
    text, folder = _prompt(prompt, prompt_file, options["ids"]), find_folder(model)
    engine = _engine(folder, engine, stream or shard)
    dtype = dtype or ("float32" if engine == OWN else None)
    said = _spelled(text, folder, parse_special)
    if parse_special:
        text, options = None, _parsed(text, options, folder)
    request = _request(text, options, folder)
    from model.cli.run_report import run_report
    from model.run.engine import Engine, spare_cores
    from model.trace.file import save

    if stream:
        spare_cores(1)  # for the thread that reads tensors before they are used
        loaded = Engine.from_disk(folder, device=device, dtype=dtype or "float32")
    else:
        loaded = load(folder, engine, device=device, dtype=dtype, shard=shard)
    started = time.perf_counter()
    run = _streamed(loaded, request, out) if isinstance(loaded, Engine) and stream else loaded.run(request)
    seconds = time.perf_counter() - started
    save(run, out)
    beside = [f"note: {line}" for line in (*said, *loaded.notes)]
    echo("\n".join([*run_report(run, seconds), *beside, f"written to {out}"]))


def _engine(folder: Path, wanted: str | None, is_placed: bool) -> str:
    """Return the name of the engine that runs a folder; `is_placed`: an option says where its layers are."""
    engine = engine_for(folder, wanted)
    if engine != OWN and is_placed:
        raise click.UsageError("--stream and --shard are for the own network; transformers places layers by itself.")
    return engine


def _streamed(engine: "Engine", request: RunRequest, out: Path) -> "Trace":
    """Return the trace of a run from disk, with a progress bar.

    Finished layers are kept in a folder next to `out` until the run ends.
    """
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

            run = engine.run(request, cancel, show, partial)
    except Exception:
        _keep_or_remove(partial)
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
    partial.remove()
    return run


def _keep_or_remove(partial: "Partial") -> None:
    """Say on stderr that the layers of a run that ended early are kept; remove the folder if there are none."""
    if not partial.layers_done:
        partial.remove()
        return
    kept = f"{partial.layers_done} finished layer{'s' if partial.layers_done > 1 else ''}"
    echo(f"note: {partial.folder} keeps {kept}; the same command goes on from there, or remove the folder", err=True)


def _prompt(prompt: str | None, prompt_file: Path | None, ids: tuple[int, ...] | None) -> str | None:
    if sum(value is not None for value in (prompt, prompt_file, ids)) != 1:
        raise click.UsageError("Give one of --prompt, --prompt-file and --ids.")
    return prompt if prompt_file is None else read_prompt(prompt_file)


def _spelled(text: str | None, folder: Path, parse_special: bool) -> list[str]:
    """Return one line for each special token whose spelling occurs in the prompt and is read as text."""
    if text is None or parse_special or not (folder / "tokenizer.json").is_file():
        return []
    from model.checkpoint.header import printable
    from model.checkpoint.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    return [
        f"{printable(spelled)} in the prompt is read as text, {len(tokenizer.encode(spelled))} tokens, not as token "
        f"{token_id}; --parse-special reads it as that token"
        for spelled, token_id in tokenizer.special_in(text).items()
    ]


def _parsed(text: str | None, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with `ids` set to the token ids of the prompt, whose special tokens are parsed.

    The first tokens of a run are added only if the prompt does not begin with them.
    """
    from model.checkpoint.tokenizer import Tokenizer

    if text is None:
        raise click.UsageError("--parse-special reads a prompt; leave it out with --ids.")
    tokenizer = Tokenizer.load(folder)
    ids = (tokenizer.encode_turn if options["chat"] else tokenizer.encode)(text, parse_special=True)
    first = list(tokenizer.first_ids)
    if ids[: len(first)] != first:
        ids = [*first, *ids]
    return options | {"ids": tuple(ids), "chat": False}


def _request(prompt: str | None, options: dict[str, Any], folder: Path) -> RunRequest:
    fields = {name: options[name] for name in FIELDS if name != "prompt"}
    return RunRequest(
        prompt=prompt,
        token_ids=options["ids"],
        capture=_capture(options),
        interventions=interventions(options, folder),
        **fields,
    )


def _capture(options: dict[str, Any]) -> Capture:
    names = frozenset(name.strip() for name in options["capture"].split(",") if name.strip())
    return Capture(names, options["layers"], options["heads"])
