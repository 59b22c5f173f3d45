"""The text that the command `compare` prints."""

from collections.abc import Sequence
from typing import Any

from model.trace import comparison_report as report
from model.trace import rollout
from model.trace.comparison import Comparison
from model.trace.imports.origin import notes
from model.trace.trace import Trace

_LISTED_TOKENS = 12
_KINDS = "near tie: rounding explains it in both traces; follows: after an earlier difference; change: neither"


def lines_of(comparison: Comparison) -> list[str]:
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
        lines.append(f"{side}  {_where(trace)}, {trace.num_tokens:,} tokens")
    settings = sorted(report.differing(comparison))
    lines.append(f"differing: {', '.join(settings) or 'none of the stated settings'}")
    traces = {"A": comparison.a, "B": comparison.b}
    return lines + [f"note on {side}: {_printable(note)}" for side, trace in traces.items() for note in notes(trace)]


def _where(trace: Trace) -> str:
    where = f"{trace.origin.get('kind')} by {trace.origin.get('engine')}, {trace.origin.get('dtype')}"
    return f"{_printable(trace.model.get('name'))}, {_printable(where)}"


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


# --- rollout and trainer ---------------------------------------------------------------------------------------------


def lines_of_documents(comparisons: Sequence[Comparison]) -> list[str]:
    """Return lines on both sides of several documents, and the share of differing choices by layer."""
    lines = []
    for side, traces in (("A", [each.a for each in comparisons]), ("B", [each.b for each in comparisons])):
        lines.append(f"{side}  {_where(traces[0])}, {sum(trace.num_tokens for trace in traces):,} tokens")
        lines += [f"note on {side}: {_printable(note)}" for note in dict.fromkeys(sum(map(notes, traces), []))]
    kinds = ("near tie", "follows", "change", "undecided")
    lines += ["", f"{'layer':>5}  {'differ':>6}  {'95 %':>15}  first split of a token: " + ", ".join(kinds)]
    for row in rollout.layer_rows(comparisons):
        first = ", ".join(f"{row['first'][kind]:,}" for kind in kinds)
        lines.append(f"{row['layer']:>5}  {_number(row['split_share'], 6)}  {_interval(row)}  {first}")
    return [*lines, _KINDS]


def figure_lines(comparisons: Sequence[Comparison], repeats: Sequence[Comparison], tau: float) -> list[str]:
    """Return the figures of rollout and trainer as lines; with repeats of the rollout, those and the difference too."""
    lines = ["", *rollout.about_documents(comparisons)]
    noise = {row["figure"]: row for row in rollout.noise_rows(comparisons, repeats, tau)} if repeats else {}
    lines.append(f"{'figure':<22}  {'A and B':>8}  {'95 %':>17}  {'n':>9}" + (_NOISE if noise else ""))
    for row in rollout.figure_rows(comparisons, tau):
        line = f"{row['figure']:<22}  {_number(row['value'], 8)}  {_interval(row, 17)}  {row['n']:>9,}"
        if noise:
            own = noise[row["figure"]]
            line += f"  {_number(own['repeat'], 8)}  {_number(own['difference'], 10)}  {own['verdict']}"
        lines.append(line)
    return lines


_NOISE = f"  {'A and A':>8}  {'difference':>10}"


def _number(value: float, width: int) -> str:
    return f"{'-' if value != value else format(value, '.3g'):>{width}}"


def _interval(row: dict[str, Any], width: int = 15) -> str:
    text = f"{row['low']:.3g} to {row['high']:.3g}" if row["low"] == row["low"] else "-"
    return f"{text:>{width}}"
