"""A run's log in small: what a page draws of it, a few hundred kilobytes in place of many megabytes.

Steps are put together into at most `POINTS` spans: losses are means, loads are sums. Looks at held-out text, answers,
biases and alarms stay at the steps at which they were made. *Saturation* is the share of a fixed text's tokens x places
that a layer's router sent, at a look, to experts that it sent them to at the last look.

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
    "gained", "higher",  # share of pairs, of preferences and of a reward model
    "reward", "signal", "kl", "length",  # of reinforcement
)  # fmt: skip


def joined(logs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Logs of runs that went on from each other's weights, with steps counted through."""
    lines: list[dict[str, Any]] = []
    for log in logs:
        before = lines[-1]["step"] if lines else 0
        lines += [line | {"step": line["step"] + before} for line in log]
    return lines


def summarise(
    lines: Sequence[dict[str, Any]], name: str, says: str, stages: Sequence[tuple[int, str]] = ()
) -> dict[str, Any]:
    """The summary of a log as JSON values.

    Args:
        lines: of the log, one per step.
        name: of the run.
        says: what is special about it, one sentence.
        stages: first step of each and its name.
    """
    if not lines:
        raise ValueError("the log holds no step")
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
        "roll_backs": [[line["step"], _went_back(line["roll_back"])] for line in lines if "roll_back" in line],
    }
    for kind in _MEANS:
        if kind in lines[-1]:
            summary[kind] = [_mean([lines[i][kind] for i in span if kind in lines[i]]) for span in spans]
    return summary | _looks(lines) | _answers(lines)


def _went_back(event: dict[str, Any]) -> str:
    steps = event["from"] - event["to"]
    return f"went back {steps:,} steps to a saved state, past the text in between: {'; '.join(event['said'])}"


def _mean(values: list[float]) -> float | None:
    return _rounded(float(np.mean(values))) if values else None


def _loads(lines: Sequence[dict[str, Any]], spans: Iterable[np.ndarray], layer: str) -> list[list[float] | None]:
    """[span][expert] ratio to uniform; None for spans before the layer was added."""
    found: list[list[float] | None] = []
    for span in spans:
        counts = np.array([lines[i]["load"][layer] for i in span if layer in lines[i]["load"]]).sum(axis=0)
        found.append([_rounded(value, 3) for value in (counts / counts.mean()).tolist()] if counts.size > 1 else None)
    return found


def _looks(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was seen at the looks, and the biases, thinned to at most `POINTS`."""
    found: dict[str, Any] = {}
    biased = [line for line in lines if "bias" in line]
    biased = [biased[i] for i in sorted(set(np.linspace(0, len(biased) - 1, min(POINTS, len(biased))).astype(int)))]
    if biased:
        layers = biased[0]["bias"]
        found["bias_step"] = [line["step"] for line in biased]
        found["bias"] = {layer: [[_rounded(b, 4) for b in line["bias"][layer]] for line in biased] for layer in layers}
    looks = [line for line in lines if "heldout" in line]
    if looks:
        streams = looks[0]["heldout"]
        found["look_step"] = [line["step"] for line in looks]
        found["heldout"] = {stream: [line["heldout"][stream] for line in looks] for stream in streams}
        found["saturation"] = {layer: [saturation(line["probe"][layer], looks[-1]["probe"][layer]) for line in looks]
                               for layer in looks[-1]["probe"]}  # fmt: skip
    return found | _positions(looks)


def _positions(looks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Bits per byte of long texts by position at the looks that read them, whole and in pieces of the first context."""
    looks = [line for line in looks if "positions" in line]
    if not looks:
        return {}
    found: dict[str, list[float]] = {}
    for place, span in enumerate(looks[0]["positions"]):
        name = f"{span['start']:,} to {span['end'] - 1:,}"
        for kind, said in (("bits_per_byte", name), ("in_pieces", f"{name}, in pieces")):
            found[said] = [_rounded(line["positions"][place][kind]) for line in looks]
    return {"position_step": [line["step"] for line in looks], "positions": found}


def _answers(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was measured of answers before each stage's first step, at its looks, and after its last one."""
    found = [(line["step"] - 1, line["before"]["answers"]) for line in lines if "answers" in line.get("before", {})]
    found += [(line["step"], line["answers"]) for line in lines if "answers" in line]
    found.sort(key=lambda pair: pair[0])
    if not found:
        return {}
    kinds = found[0][1]
    return {
        "answer_step": [step for step, _ in found],
        "answers": {kind: [answers[kind] for _, answers in found] for kind in kinds},
    }


def saturation(experts: Sequence[Sequence[int]], last: Sequence[Sequence[int]]) -> float:
    """Share of places, over tokens, whose expert is among those of the last look.

    >>> saturation([[0, 1], [2, 3]], [[1, 5], [2, 3]])
    0.75
    """
    same = [len(set(now) & set(final)) / len(final) for now, final in zip(experts, last, strict=True)]
    return _rounded(float(np.mean(same)), 4)


def _rounded(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")


def write(summary: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Put a summary among those that the Training page shows."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{summary['name'].replace(' ', '-')}.json"
    path.write_text(json.dumps(summary, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    return path


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the whole, and of the file.")
@click.option("--says", required=True, help="What is special about it, one sentence.")
@click.option("--stage", "stages", multiple=True, type=(int, str), help="First step of a stage, and its name.")
def main(runs: tuple[Path, ...], name: str, says: str, stages: tuple[tuple[int, str], ...]) -> None:
    """Put the logs of RUNS, each of which went on from the one before, among those that the Training page shows."""
    path = write(summarise(joined([list(read_log(run / LOG)) for run in runs]), name, says, stages))
    click.echo(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
