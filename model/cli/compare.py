"""The command `compare`: compare two traces, two decision tables, or two models on the same text.

Exit status: 0: done; 1: a threshold of --fail-above was exceeded; 2: unusable input.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.cli import compare_text
from model.cli.options import Numbers, Unusable, find_folder, read_prompt
from model.cli.terminal import echo
from model.families.choose import ENGINES, OWN, engine_for, load
from model.trace import comparison_report as report
from model.trace import rollout
from model.trace.comparison import Comparison, compare
from model.trace.comparison_measures import MEASURES, measures
from model.trace.imports.table_rows import Document
from model.trace.pairing import compare_documents
from model.trace.writing import strict

if TYPE_CHECKING:
    from model.run.request import RunRequest

UNSTATED = "if not given, float32 or, by transformers, as published"


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of the comparison: a file or a model, and how to run the model.

    Attributes:
        name: a trace file, a decision table, an embedded model or a folder.
        engine, dtype: what runs a model, and in which dtype; None: the default.
    """

    name: str
    engine: str | None
    dtype: str | None

    @property
    def is_file(self) -> bool:
        """Whether the side is a file; a folder or the name of an embedded model is a model."""
        return Path(self.name).is_file()


class Threshold(click.ParamType):
    """A measure and its highest allowed value, for example changed-share=0.01."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, limit = value.partition("=")
        if name not in MEASURES:
            self.fail(f"{name!r} is not a measure; choose from {', '.join(MEASURES)}", param, ctx)
        try:
            number = float(limit)
        except ValueError:
            number = float("nan")
        if not number >= 0:
            self.fail(f"{value!r} is not a measure with a limit of at least 0, such as changed-share=0.01", param, ctx)
        return name, number


@click.command("compare", epilog="Measures: " + "; ".join(f"{name}: {meaning}" for name, meaning in MEASURES.items()))
@click.argument("a")
@click.argument("b")
@click.option("--prompt", help="Text for the models to run.")
@click.option("--prompt-file", type=click.Path(path_type=Path), help="UTF-8 file with the prompt.")
@click.option("--ids", type=Numbers(), help="Token ids for the models to run as they are; no BOS is added.")
@click.option("--dtype-a", help=f"dtype of A, if it is a model; {UNSTATED}.")
@click.option("--dtype-b", help=f"dtype of B, if it is a model; {UNSTATED}.")
@click.option("--engine-a", type=click.Choice(ENGINES), help="What runs A, if it is a model.")
@click.option("--engine-b", type=click.Choice(ENGINES), help="What runs B, if it is a model.")
@click.option("--device", default="auto", show_default=True)
@click.option("--model", help="Model of the decision tables: says which layers are dense.")
@click.option("--repeat", help="A again, by the same engine on the same tokens: tells noise from a fault.")
@click.option(
    "--tau",
    type=click.FloatRange(1, min_open=True),
    default=rollout.TAU,
    show_default=True,
    help="Ratio of probabilities above which a token counts in ratio-share.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--fail-above",
    type=Threshold(),
    multiple=True,
    help="Exit with status 1 if a measure exceeds its limit; can be repeated.",
)
def compare_command(
    a: str,
    b: str,
    prompt: str | None,
    prompt_file: Path | None,
    ids: tuple[int, ...] | None,
    dtype_a: str | None,
    dtype_b: str | None,
    engine_a: str | None,
    engine_b: str | None,
    device: str,
    model: str | None,
    repeat: str | None,
    tau: float,
    as_json: bool,
    fail_above: tuple[tuple[str, float], ...],
) -> None:
    """Show where the routing of A and B differs, and whether rounding explains it.

    A and B are trace files, decision tables or models; a model is an embedded name or a folder in the Hugging Face
    layout. Models run the given prompt. Without a prompt, a model that is compared with a file runs the token ids of
    the file.

    A decision table holds many documents: JSON lines with an answer of vLLM or SGLang each, or with token_ids and
    routed_experts; or a batch of verl as safetensors. A is the rollout, B the trainer.
    """
    sides = [Side(a, engine_a, dtype_a), Side(b, engine_b, dtype_b)]
    sides += [Side(repeat, engine_a, dtype_a)] if repeat is not None else []
    first, second, *others = _documents(sides, (prompt, prompt_file, ids), device, model)
    comparisons = _compared(first, second)
    repeats = _compared(first, others[0]) if others else []
    exceeded = _exceeded(comparisons, fail_above, tau)
    echo(_as_json(comparisons, repeats, tau) if as_json else "\n".join(_lines(comparisons, repeats, tau)))
    for line in exceeded:
        echo(line, err=True)
    if exceeded:
        click.get_current_context().exit(1)


_Prompts = tuple[str | None, Path | None, tuple[int, ...] | None]


def _documents(sides: Sequence[Side], prompts: _Prompts, device: str, model: str | None) -> list[list[Document]]:
    """Return the documents of each side: those of its file, or one for each run of its model."""
    given = [value for value in prompts if value is not None]
    if len(given) > 1:
        raise click.UsageError("Give at most one of --prompt, --prompt-file and --ids.")
    if all(side.is_file for side in sides) and given:
        raise click.UsageError("Two trace files need no prompt; leave out --prompt, --prompt-file and --ids.")
    if not any(side.is_file for side in sides) and not given:
        raise click.UsageError("Two models need one of --prompt, --prompt-file and --ids, or give two trace files.")
    files = [_read(side.name, model) if side.is_file else None for side in sides]
    ran = next((documents for documents in files if documents is not None), None)
    requests = [("", _request(prompts))] if given else [(each.name, _same_tokens(each)) for each in ran or ()]
    return [
        documents if documents is not None else _run(side, device, requests)
        for side, documents in zip(sides, files, strict=True)
    ]


def _read(path: str, model: str | None) -> list[Document]:
    """Return the documents of a decision table, or the one of a trace file."""
    from model.checkpoint.embedded import RELEASED
    from model.checkpoint.named import named_model
    from model.trace.errors import TraceError
    from model.trace.file import loads
    from model.trace.imports import decision_tables
    from model.trace.limits import MOST_TRACE_BYTES
    from model.trace.ordinary import read_ordinary

    try:
        content = read_ordinary(path, MOST_TRACE_BYTES)
        if decision_tables.is_table(content):
            if model is not None and model not in RELEASED:
                find_folder(model, f"a released configuration ({', '.join(RELEASED)})")
            return decision_tables.read(content, None if model is None else named_model(model))
        return [Document("", loads(content))]
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _request(prompts: _Prompts) -> "RunRequest":
    from model.run.request import RunRequest

    prompt, prompt_file, ids = prompts
    return RunRequest(prompt=read_prompt(prompt_file) if prompt_file is not None else prompt, token_ids=ids)


def _same_tokens(document: Document) -> "RunRequest":
    """Return the request that runs the token ids of a document."""
    from model.run.request import RunRequest

    ids = tuple(token.id for token in document.trace.tokens)
    if -1 in ids:
        raise Unusable("the trace lacks some token ids; give the prompt for the model to run")
    return RunRequest(token_ids=ids)


def _run(side: Side, device: str, requests: Sequence[tuple[str, "RunRequest"]]) -> list[Document]:
    folder = find_folder(side.name, "a trace file")
    engine = engine_for(folder, side.engine)
    dtype = side.dtype or ("float32" if engine == OWN else None)
    loaded = load(folder, engine, device=device, dtype=dtype)
    return [Document(name, loaded.run(request)) for name, request in requests]


def _compared(first: list[Document], second: list[Document]) -> list[Comparison]:
    """Return a comparison per document; two single runs may have other tokens and other numbers of experts."""
    if len(first) == len(second) == 1 and not (first[0].name or second[0].name):
        return [compare(first[0].trace, second[0].trace)]
    return compare_documents(first, second)


def _exceeded(comparisons: list[Comparison], thresholds: tuple[tuple[str, float], ...], tau: float) -> list[str]:
    """Return a line for each measure above its threshold.

    Raises:
        Unusable: the value of a measure is not known, so it cannot be compared with its threshold.
    """
    values, lines = measures(*comparisons, tau=tau), []
    for name, limit in thresholds:
        if values[name] != values[name]:
            raise Unusable(f"{name} cannot be checked: a trace lacks the variables that it needs")
        if values[name] > limit:
            lines.append(f"{name} is {values[name]:.3g}, above {limit:g}")
    return lines


def _as_json(comparisons: list[Comparison], repeats: list[Comparison], tau: float) -> str:
    """Return the comparison as JSON; only that of a single document lists tokens and layers of its own."""
    values: dict[str, Any] = {"format": "moe-loupe-comparison", "version": 1}
    if len(comparisons) == 1:
        values = report.to_json(comparisons[0], tau)
    else:
        values["measures"] = {name: None if v != v else v for name, v in measures(*comparisons, tau=tau).items()}
    return json.dumps(
        strict(values | {"rollout": rollout.to_json(comparisons, tau, repeats)}), indent=1, allow_nan=False
    )


def _lines(comparisons: list[Comparison], repeats: list[Comparison], tau: float) -> list[str]:
    figures = compare_text.figure_lines(comparisons, repeats, tau)
    if len(comparisons) == 1:
        return [*compare_text.lines_of(comparisons[0]), *figures]
    return [*compare_text.lines_of_documents(comparisons), *figures]
