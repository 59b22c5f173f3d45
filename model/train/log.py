"""The log of a run: one JSON object a line, one line a step.

Keys: `step` (done so far), `tokens` (of this step), `loss` (nats per token), `balance_loss` (before its weight),
`mtp_loss` and `indexer_loss` (sum over layers) where the model has those parts, `rate`, `grad_norm` (before clipping),
`seconds`, `tokens_per_s`, and `load`: for each mixture layer's number, the tokens that each expert took in the step. A
look at held-out text adds `heldout` (bits per byte), `probe` (experts of a fixed text, examine.py) and `bias`, and for
an extended context `positions` (context.py); what the watch has to say is in `alarms`. The first step after going back
to a saved state has `roll_back`: the step `from` which and the one `to` which the run went back, and what the watch had
`said`; the lines in between are dropped. Stages that train a part or tune (minimise.py) log what their losses tell,
what was measured `before` the first step with it, and what was measured at each look.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from model.trace.writing import replacing

LOG = "log.jsonl"


class StepLog:
    """Appends steps; on resuming, lines of steps that the saved state does not contain are dropped first."""

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        self._path = folder / LOG
        self._file = self._path.open("a", encoding="utf-8")
        self.cut(steps_done)

    def cut(self, steps_done: int) -> list[dict[str, Any]]:
        """Drop the lines after a step, and give those that stay."""
        kept = [line for line in read_log(self._path) if line["step"] <= steps_done]
        self._file.close()
        with replacing(self._path) as temporary:
            temporary.write_text("".join(map(_as_text, kept)), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        return kept

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
    """Steps of a log; a last line that was cut off is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
