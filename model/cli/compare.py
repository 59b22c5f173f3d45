"""The command `compare`: compare two traces, or two models on the same text.

Exit status: 0: done; 1: a threshold of --fail-above was exceeded; 2: unusable input.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.cli.options import Numbers, Unusable, find_folder, read_prompt
from model.cli.terminal import echo
from model.families.choose import ENGINES, OWN, engine_for, load
from model.trace import comparison_report as report
from model.trace.comparison import Comparison, compare
from model.trace.imports.origin import notes
from model.trace.writing import strict

if TYPE_CHECKING:
    from model.run.request import RunRequest
    from model.trace.trace import Trace

UNSTATED = "if not given, float32 or, by transformers, as published"
_LISTED_TOKENS = 12
_KINDS = "near tie: rounding explains it in both traces; follows: after an earlier difference; change: neither"


class Threshold(click.ParamType):
    """A measure and its highest allowed value, for example changed-share=0.01."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, limit = value.partition("=")
        if name not in report.MEASURES:
            self.fail(f"{name!r} is not a measure; choose from {', '.join(report.MEASURES)}", param, ctx)
        try:
            number = float(limit)
        except ValueError:
            number = float("nan")
        if not number >= 0:
            self.fail(f"{value!r} is not a measure with a limit of at least 0, such as changed-share=0.01", param, ctx)
        return name, number


@click.command(
    "compare", epilog="Measures: " + "; ".join(f"{name}: {meaning}" for name, meaning in report.MEASURES.items())
)
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
    as_json: bool,
    fail_above: tuple[tuple[str, float], ...],
) -> None:
    """Show where the routing of A and B differs, and whether rounding explains it.

    A and B are trace files or models; a model is an embedded name or a folder in the Hugging Face layout. Models run
    the given prompt. Without a prompt, a model that is compared with a trace file runs the token ids of the trace.
    """
    files = [Path(name).is_file() for name in (a, b)]  # an embedded model's name, or a folder, is a model
    prompts = [value for value in (prompt, prompt_file, ids) if value is not None]
    if len(prompts) > 1:
        raise click.UsageError("Give at most one of --prompt, --prompt-file and --ids.")
    if all(files) and prompts:
        raise click.UsageError("Two trace files need no prompt; leave out --prompt, --prompt-file and --ids.")
    if not any(files) and not prompts:
        raise click.UsageError("Two models need one of --prompt, --prompt-file and --ids, or give two trace files.")
    loaded = [_load(name) if is_file else None for name, is_file in zip((a, b), files, strict=True)]
    request = None if all(files) else _request(prompt, prompt_file, ids, loaded[0] or loaded[1])
    sides = [
        trace or _run(name, engine, dtype, device, request)
        for trace, name, engine, dtype in zip(loaded, (a, b), (engine_a, engine_b), (dtype_a, dtype_b), strict=True)
    ]
    comparison = compare(*sides)
    exceeded = _exceeded(comparison, fail_above)
    echo(
        json.dumps(strict(report.to_json(comparison)), indent=1, allow_nan=False)
        if as_json
        else "\n".join(_lines(comparison))
    )
    for line in exceeded:
        echo(line, err=True)
    if exceeded:
        click.get_current_context().exit(1)


def _load(name: str) -> "Trace":
    from model.trace.file import load

    return load(name)


def _request(
    prompt: str | None, prompt_file: Path | None, ids: tuple[int, ...] | None, trace: "Trace | None"
) -> "RunRequest":
    """Return the request that the models run: the given prompt or ids, else the token ids of the trace."""
    from model.run.request import RunRequest

    if prompt_file is not None:
        prompt = read_prompt(prompt_file)
    if prompt is None and ids is None and trace is not None:
        ids = tuple(token.id for token in trace.tokens)
        if -1 in ids:
            raise Unusable("the trace lacks some token ids; give the prompt for the model to run")
    return RunRequest(prompt=prompt, token_ids=ids)


def _run(name: str, engine: str | None, dtype: str | None, device: str, request: "RunRequest | None") -> "Trace":
    folder = find_folder(name, "a trace file")
    assert request is not None
    engine = engine_for(folder, engine)
    dtype = dtype or ("float32" if engine == OWN else None)
    return load(folder, engine, device=device, dtype=dtype).run(request)


def _exceeded(comparison: Comparison, thresholds: tuple[tuple[str, float], ...]) -> list[str]:
    """Return a line for each measure above its threshold.

    Raises:
        Unusable: the value of a measure is not known, so it cannot be compared with its threshold.
    """
    values, lines = report.measures(comparison), []
    for name, limit in thresholds:
        if values[name] != values[name]:
            raise Unusable(f"{name} cannot be checked: a trace lacks the variables that it needs")
        if values[name] > limit:
            lines.append(f"{name} is {values[name]:.3g}, above {limit:g}")
    return lines


# --- text ------------------------------------------------------------------------------------------------------------


def _lines(comparison: Comparison) -> list[str]:
    """Return the comparison as lines of text."""
    return [
        *_header(comparison),
        "",
        *report.verdict(comparison),
        "",
        *_layer_table(comparison),
        *_token_table(comparison),
    ]


def _header(comparison: Comparison) -> list[str]:
    lines = []
    for side, trace in (("A", comparison.a), ("B", comparison.b)):
        where = f"{trace.origin.get('kind')} by {trace.origin.get('engine')}, {trace.origin.get('dtype')}"
        lines.append(f"{side}  {_printable(trace.model.get('name'))}, {_printable(where)}, {trace.num_tokens:,} tokens")
    settings = sorted(report.differing(comparison))
    lines.append(f"differing: {', '.join(settings) or 'none of the stated settings'}")
    traces = {"A": comparison.a, "B": comparison.b}
    return lines + [f"note on {side}: {_printable(note)}" for side, trace in traces.items() for note in notes(trace)]


def _printable(value: object) -> str:
    """Return a value as text, with escapes for characters that would move the cursor or end the line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def _layer_table(comparison: Comparison) -> list[str]:
    kinds = ("near tie", "follows", "change", "undecided")
    lines = [
        f"{'layer':>5}  {'equal':>6}  {'Jaccard':>7}  " + "  ".join(f"{kind:>9}" for kind in kinds) + "    weights"
    ]
    for row in report.layer_rows(comparison):
        numbers = [_cell(row["equal"], ".3f", 6), _cell(row["jaccard"], ".3f", 7)]
        numbers += [f"{row[kind]:>9,}" for kind in kinds]
        lines.append("  ".join([f"{row['layer']:>5}", *numbers, _cell(row["weight_difference"], ".2g", 9)]))
    if comparison.chance is not None:
        share, index = comparison.chance.equal, comparison.chance.jaccard
        lines.append(f"{'fair':>5}  {share:>6.3f}  {index:>7.3f}  expected of two independent fair routers (derived)")
    return [*lines, _KINDS] if comparison.is_split.any() else lines


def _cell(value: float | None, form: str, width: int) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def _token_table(comparison: Comparison) -> list[str]:
    rows = report.token_rows(comparison)
    if not rows:
        return []
    lines = ["", f"{'token':>6}  {'split at':>8}  {'verdict':<9}  {'margin':>8}  {'only A':<12} {'only B':<12} text"]
    for row in rows[:_LISTED_TOKENS]:
        sides = [",".join(f"E{expert}" for expert in row[side]) for side in ("only_a", "only_b")]
        where = f"{row['token']:>6}  {'L' + str(row['layer']):>8}  {row['verdict']:<9}"
        text = _printable(row["text"].replace(" ", "·"))
        lines.append(f"{where}  {_cell(row['margin'], '.2g', 8)}  {sides[0]:<12} {sides[1]:<12} {text}")
    rest = len(rows) - _LISTED_TOKENS
    return [*lines, f"and {rest:,} more tokens; --json lists all"] if rest > 0 else lines
