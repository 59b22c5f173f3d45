"""Summary of a run's log for the Training page: a few hundred kilobytes instead of many megabytes.

Steps are merged into at most `POINTS` spans; losses are averaged and loads are added. Evaluations, biases and alarms
keep their steps. The saturation of a router at an evaluation is the share of its top-k selections, on a fixed text,
that agree with its selections at the last evaluation.

Source of saturation: OLMoE (arXiv 2409.02060), section 5.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from model.checkpoint.embedded import PRESETS
from model.train.log import LOG, read_log

FOLDER = PRESETS / "logs"
POINTS = 120
_MEANS = (
    "loss", "mtp_loss", "indexer_loss", "balance_loss", "rate", "grad_norm",
    "gained", "higher",  # shares of pairs in preference alignment and reward training
    "reward", "signal", "kl", "length",  # in GRPO
)  # fmt: skip


def joined(logs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the lines of the logs of consecutive runs, with steps numbered consecutively."""
    lines: list[dict[str, Any]] = []
    for log in logs:
        before = lines[-1]["step"] if lines else 0
        lines += [line | {"step": line["step"] + before} for line in log]
    return lines


def summarise(
    lines: Sequence[dict[str, Any]], name: str, says: str, stages: Sequence[tuple[int, str]] = ()
) -> dict[str, Any]:
    """Return the summary of a log as JSON values.

    Args:
        lines: lines of the log, one per step.
        name: name of the run.
        says: the special feature of the run, in one sentence.
        stages: first step and name of each stage.

    Raises:
        ValueError: the log holds no step.
    """
    if not lines:
        raise ValueError("the log holds no step; train first")
    spans = [part for part in np.array_split(np.arange(len(lines)), min(POINTS, len(lines))) if len(part)]
    tokens = np.cumsum([line["tokens"] for line in lines])
    summary: dict[str, Any] = {
        "name": name,
        "says": says,
        "stages": [list(stage) for stage in stages],
        "step": [lines[span[-1]]["step"] for span in spans],
        "tokens": [int(tokens[span[-1]]) for span in spans],
        "load": {layer: _loads(lines, spans, layer) for layer in lines[-1]["load"]},
        "alarms": [[line["step"], alarm] for line in lines for alarm in line.get("alarms", [])],
        "roll_backs": [[line["step"], _roll_back(line["roll_back"])] for line in lines if "roll_back" in line],
    }
    for kind in _MEANS:
        if kind in lines[-1]:
            summary[kind] = [_mean([lines[i][kind] for i in span if kind in lines[i]]) for span in spans]
    return summary | _evaluations(lines) | _answers(lines)


def _roll_back(event: dict[str, Any]) -> str:
    steps = event["from"] - event["to"]
    return f"rolled back {steps:,} steps to a saved state and skipped their text: {'; '.join(event['said'])}"


def _mean(values: list[float]) -> float | None:
    return _rounded(float(np.mean(values))) if values else None


def _loads(lines: Sequence[dict[str, Any]], spans: Iterable[np.ndarray], layer: str) -> list[list[float] | None]:
    """Return the load ratios of a layer, [span][expert]; None for a span before the layer was added to the model."""
    ratios: list[list[float] | None] = []
    for span in spans:
        counts = np.array([lines[i]["load"][layer] for i in span if layer in lines[i]["load"]]).sum(axis=0)
        ratios.append([_rounded(value, 3) for value in (counts / counts.mean()).tolist()] if counts.size > 1 else None)
    return ratios


def _evaluations(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the evaluations, and the biases at no more than `POINTS` steps."""
    summary: dict[str, Any] = {}
    biased = [line for line in lines if "bias" in line]
    biased = [biased[i] for i in sorted(set(np.linspace(0, len(biased) - 1, min(POINTS, len(biased))).astype(int)))]
    if biased:
        layers = biased[0]["bias"]
        summary["bias_step"] = [line["step"] for line in biased]
        summary["bias"] = {
            layer: [[_rounded(b, 4) for b in line["bias"][layer]] for line in biased] for layer in layers
        }
    evaluations = [line for line in lines if "heldout" in line]
    if evaluations:
        streams = evaluations[0]["heldout"]
        summary["look_step"] = [line["step"] for line in evaluations]
        summary["heldout"] = {stream: [line["heldout"][stream] for line in evaluations] for stream in streams}
        summary["saturation"] = {
            layer: [saturation(line["probe"][layer], last) for line in evaluations]
            for layer, last in evaluations[-1]["probe"].items()
        }
    return summary | _positions(evaluations)


def _positions(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return bits per byte of long texts by position: read whole, and in pieces as long as the first context."""
    evaluations = [line for line in evaluations if "positions" in line]
    if not evaluations:
        return {}
    bits: dict[str, list[float]] = {}
    for number, span in enumerate(evaluations[0]["positions"]):
        name = f"{span['start']:,} to {span['end'] - 1:,}"
        for kind, label in (("bits_per_byte", name), ("in_pieces", f"{name}, in pieces")):
            bits[label] = [_rounded(line["positions"][number][kind]) for line in evaluations]
    return {"position_step": [line["step"] for line in evaluations], "positions": bits}


def _answers(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the evaluations of answers before, during and after each stage, in the order of steps."""
    evaluations = [
        (line["step"] - 1, line["before"]["answers"]) for line in lines if "answers" in line.get("before", {})
    ]
    evaluations += [(line["step"], line["answers"]) for line in lines if "answers" in line]
    evaluations.sort(key=lambda pair: pair[0])
    if not evaluations:
        return {}
    kinds = evaluations[0][1]
    return {
        "answer_step": [step for step, _ in evaluations],
        "answers": {kind: [answers[kind] for _, answers in evaluations] for kind in kinds},
    }


def saturation(experts: Sequence[Sequence[int]], last: Sequence[Sequence[int]]) -> float:
    """Return the share of top-k selections of an evaluation that agree with the last evaluation, a mean over tokens.

    >>> saturation([[0, 1], [2, 3]], [[1, 5], [2, 3]])
    0.75
    """
    same = [len(set(now) & set(final)) / len(final) for now, final in zip(experts, last, strict=True)]
    return _rounded(float(np.mean(same)), 4)


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")


def write(summary: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a summary to the folder of the Training page, and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{summary['name'].replace(' ', '-')}.json"
    path.write_text(json.dumps(summary, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the run and of the file.")
@click.option("--says", required=True, help="What is special about the run, in one sentence.")
@click.option("--begin", default=0, help="Number of training steps of the base model; the page counts on from there.")
@click.option(
    "--stage", "stages", multiple=True, type=(int, str), help="First step and name of a stage; can be repeated."
)
def main(runs: tuple[Path, ...], name: str, says: str, begin: int, stages: tuple[tuple[int, str], ...]) -> None:
    """Summarise the logs of RUNS for the Training page. Each run must continue the run before it."""
    summary = summarise(joined([list(read_log(run / LOG)) for run in runs]), name, says, stages)
    path = write(summary | {"begin": begin})
    click.echo(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
