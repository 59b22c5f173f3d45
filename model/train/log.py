"""The log of a run: one JSON object per line, one line per step.

| key | value |
|---|---|
| `step` | number of finished steps |
| `tokens` | tokens of this step |
| `loss` | nats per token |
| `balance_loss` | balance loss before its weight is applied |
| `mtp_loss`, `indexer_loss` | nats, if the model has these parts; `indexer_loss` is a sum over layers |
| `rate`, `grad_norm` | learning rate; norm of the gradient before clipping |
| `seconds`, `tokens_per_s` | time of the step |
| `load` | by layer number: tokens of each expert in this step |
| `heldout`, `probe`, `bias` | at an evaluation: bits per byte, experts of a fixed text, biases (progress.py) |
| `positions` | at an evaluation of an extended context: bits per byte by position (context.py) |
| `alarms` | new alarms (watch.py) |
| `roll_back` | in the first step after a roll-back: the steps `from` and `to`, and the alarms (`said`) |

A roll-back removes the lines of the steps that it undoes. Stages that train one part or tune (minimise.py) log the
values that their loss returns, and the results of evaluations. Their first line also has the results before the first
step, as `before`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from model.trace.writing import replacing

LOG = "log.jsonl"


class StepLog:
    """Appends steps to a log; first removes the lines of steps that a resumed run repeats."""

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        self._path = folder / LOG
        self._file = self._path.open("a", encoding="utf-8")
        self.cut(steps_done)

    def cut(self, steps_done: int) -> list[dict[str, Any]]:
        """Remove the lines of all steps after `steps_done`, and return the other lines."""
        lines = [line for line in read_log(self._path) if line["step"] <= steps_done]
        self._file.close()
        with replacing(self._path) as temporary:
            temporary.write_text("".join(map(_as_text, lines)), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        return lines

    def write(self, line: dict[str, Any]) -> None:
        """Append the line of one step."""
        self._file.write(_as_text(line))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _as_text(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":")) + "\n"


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log as JSON values, up to the first incomplete line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
