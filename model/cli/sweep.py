"""The command `sweep`: route the documents of a corpus, and sum what the routers decide."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.atlas.schema import LABELS
from model.cli.options import NEW_FOLDER
from model.cli.terminal import echo
from model.sweep.settings import KEEP

if TYPE_CHECKING:
    from model.atlas.manifest import Manifest
    from model.sweep.progress import Progress
    from model.sweep.run import Results
    from model.sweep.settings import Settings

_SECONDS_BETWEEN_LINES = 2.0


class Pair(click.ParamType):
    """A name and a value, for example domain=code."""

    def __init__(self, *names: str) -> None:
        self._names, self.name = names, f"{'|'.join(names)}=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, sign, text = value.partition("=")
        if name not in self._names or not sign or not text:
            self.fail(f"{value!r} is not a name and a value such as {self._names[0]}=code", param, ctx)
        return name, text


@click.command("sweep")
@click.argument("model")
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="")
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="PATHS...",
    help="Files of documents, or folders of them: JSONL, Parquet or plain text; gzip is fine.",
)
@click.option("--out", type=NEW_FOLDER, help="Folder of the sweep; the same command goes on in it.")
@click.option(
    "--label", "fixed", type=Pair(*LABELS), multiple=True, help="Label of every document, for example domain=code."
)
@click.option(
    "--key",
    "keys",
    type=Pair("text", *LABELS),
    multiple=True,
    help="Key or column that holds the text or a label, for example text=content.",
)
@click.option(
    "--keep",
    type=click.Choice(KEEP),
    multiple=True,
    help="Store beyond the sums: texts around tokens, ids of every token, bits of each document. May be repeated.",
)
@click.option("--window", type=click.IntRange(8), help="Tokens of a run; default: the model's context.")
@click.option(
    "--batch-tokens",
    type=click.IntRange(1),
    help="Tokens of a batch, with padding; default: 2048, or 32768 for an engine, which gets a request per window.",
)
@click.option("--shard-tokens", type=click.IntRange(1), default=65_536, show_default=True, help="Lost if it is killed.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; more than 1 need Ray."
)
@click.option(
    "--gpus-per-worker", type=click.FloatRange(0), help="Also a part of one; default: 1 if the model runs on CUDA."
)
@click.option(
    "--ray-address", metavar="HOST:PORT", help="Use the Ray cluster there; documents then leave this machine."
)
@click.option(
    "--engine",
    envvar="MOE_LOUPE_ENGINE",
    metavar="ADDRESS",
    help="Ask the vLLM or SGLang there, which serves MODEL; default: MOE_LOUPE_ENGINE.",
)
@click.option("--engine-kind", type=click.Choice(["vllm", "sglang"]), envvar="MOE_LOUPE_ENGINE_KIND")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", help="float32, bfloat16 or float16; if not given, float32 or, by transformers, as published.")
@click.option("--dry-run", is_flag=True, help="Print documents, tokens, bytes and time, and write nothing.")
def sweep_command(
    model: str,
    more: tuple[Path, ...],
    texts: tuple[Path, ...],
    out: Path | None,
    dry_run: bool,
    workers: int,
    gpus_per_worker: float | None,
    ray_address: str | None,
    batch_tokens: int | None,
    **options: Any,
) -> None:
    """Route the documents of a corpus through MODEL, and write a folder of sums over documents.

    The sweep can be stopped at any time. The same command goes on and repeats at most the shards that were not
    finished. docs/sweep.md describes the tables.
    """
    from model.sweep.settings import Settings
    from model.sweep.texts import find_files

    if out is None and not dry_run:
        raise click.UsageError("give --out FOLDER, or --dry-run")
    files = tuple(str(path.resolve()) for path in find_files((*texts, *more)))
    batch_tokens = batch_tokens or (2048 if options["engine"] is None else 32_768)
    settings = Settings(model=model, paths=files, out=str(out or ""), batch_tokens=batch_tokens, **options)
    _say_where_documents_go(settings.engine, ray_address)
    if dry_run:
        _print_estimate(settings)
        return
    _run(settings, _results(workers, gpus_per_worker, ray_address))


def _say_where_documents_go(engine: str | None, cluster: str | None) -> None:
    """Name every place to which documents are sent, before the first is read."""
    if engine is not None:
        _note(f"all documents are sent to the engine at {engine}, and nowhere else")
    if cluster is not None:
        _note(f"documents leave this machine: the workers of the Ray cluster at {cluster} read the texts")


def _results(number: int, gpus_each: float | None, address: str | None) -> "Results | None":
    """Return what routes the shards in several processes; None: this process does."""
    if number == 1 and address is None:
        return None
    from model.sweep.pool import in_a_pool
    from model.sweep.settings import Workers
    from model.sweep.sweeper import Sweeper

    return in_a_pool(Workers(number, gpus_each, address), Sweeper, _note)


def _note(sentence: str) -> None:
    echo(f"note: {sentence}", err=True)


def _print_estimate(settings: "Settings") -> None:
    from model.sweep.estimate import estimate

    found = estimate(settings)
    echo(
        f"{len(settings.paths):,} files, {found.documents:,} documents, {found.tokens:,} tokens in {found.shards:,} "
        f"shards; {found.bad:,} documents cannot be routed"
    )
    echo(
        f"about {_duration(found.tokens / found.rate)} in one process, at {found.rate:,.0f} tokens a second (measured "
        f"on {found.sample:,} tokens), and at most {found.num_bytes / 1e6:,.0f} MB"
    )


def _run(settings: "Settings", results: "Results | None") -> None:
    from model.sweep.run import sweep

    lines = _Lines()
    try:
        manifest = sweep(settings, results, on_progress=lines.show, on_note=_note)
    except KeyboardInterrupt:
        if lines.progress is not None:
            echo(
                f"{lines.progress.done} of {lines.progress.shards} shards are finished and kept; run the same command "
                "again to go on",
                err=True,
            )
        raise
    _print_report(settings, manifest)


class _Lines:
    """Prints the progress, at most one line in `_SECONDS_BETWEEN_LINES`."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._printed = -_SECONDS_BETWEEN_LINES

    def show(self, progress: "Progress") -> None:
        self.progress, now = progress, time.monotonic()
        if now - self._printed < _SECONDS_BETWEEN_LINES and progress.done < progress.shards:
            return
        self._printed = now
        line = f"{progress.done} of {progress.shards} shards, {progress.tokens_done:,} of {progress.tokens:,} tokens"
        if progress.rate and progress.seconds_left is not None:
            line += f", {progress.rate:,.0f} tokens a second, {_duration(progress.seconds_left)} left"
        echo(line, err=True)


def _print_report(settings: "Settings", manifest: "Manifest") -> None:
    failed, check = manifest.failed, manifest.invariance
    documents = sum(entry["documents"] for entry in manifest.inputs) - len(failed)
    echo(f"{settings.out}: {documents:,} documents in {len(manifest.shards):,} shards")
    if failed:
        first = failed[0]
        name = manifest.inputs[first["file"]]["name"]
        echo(
            f"{len(failed):,} documents could not be routed; the first is document {first['document']} of {name}: "
            f"{first['error']}; manifest.json lists all"
        )
    if check:
        echo(
            f"repeated in batches of {check['batch_tokens']:,} tokens, {check['different']:,} of "
            f"{check['decisions']:,} decisions differ ({check['different'] / max(1, check['decisions']):.2%})"
        )


def _duration(seconds: float) -> str:
    """Return a time in words.

    >>> _duration(75), _duration(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
