"""The log of a run: one JSON object per line, one line per step.

| key | value |
|---|---|
| `step` | steps done |
| `tokens` | tokens of this step |
| `loss` | nats per token |
| `balance_loss` | before its weight |
| `mtp_loss`, `indexer_loss` | if the model has these parts; `indexer_loss` is a sum over layers |
| `rate`, `grad_norm` | learning rate; norm of the gradient before clipping |
| `seconds`, `tokens_per_s` | time of the step |
| `load` | by layer number: tokens of each expert in this step |
| `heldout`, `probe`, `bias` | at an evaluation: bits per byte, experts of a fixed text, biases (progress.py) |
| `positions` | at an evaluation of an extended context: bits per byte by position (context.py) |
| `alarms` | what the watch found (watch.py) |
| `roll_back` | first step after a roll-back: steps `from` and `to`, and the alarms (`said`) |

A roll-back drops the lines between its two steps. Stages that train one part or tune (minimise.py) log the values that
their loss returns, the results of each evaluation, and with the first step the results `before` it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from model.trace.writing import replacing

LOG = "log.jsonl"


class StepLog:
    """Appends steps to a log, after dropping the lines of steps that a resumed run repeats."""

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        self._path = folder / LOG
        self._file = self._path.open("a", encoding="utf-8")
        self.cut(steps_done)

    def cut(self, steps_done: int) -> list[dict[str, Any]]:
        """Drop the lines after a step and return the others."""
        lines = [line for line in read_log(self._path) if line["step"] <= steps_done]
        self._file.close()
        with replacing(self._path) as temporary:
            temporary.write_text("".join(map(_as_text, lines)), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        return lines

    def write(self, line: dict[str, Any]) -> None:
        """Append one step."""
        self._file.write(_as_text(line))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _as_text(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":")) + "\n"


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the steps of a log, without an incomplete last line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
