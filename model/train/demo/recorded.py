"""Records the two runs that the Collapse page shows before a visitor trains a model.

python -m model.train.demo.recorded      (`make recorded`)
"""

import gzip
import json
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from model.checkpoint.embedded import PRESETS
from model.train.demo.nano import BIAS, NOTHING, Nano, train_nano

FILE = PRESETS / "recorded" / "collapse.json.gz"
RUNS = {"A": Nano(NOTHING, 0.0), "B": Nano(BIAS, 0.02)}  # side of the page -> its run
KEPT = ("step", "loss", "load", "alarms")  # entries of a log line that the page reads


def trimmed(line: dict[str, Any]) -> dict[str, Any]:
    """Return the entries `KEPT` of a log line, the loss with five digits."""
    kept = {name: line[name] for name in KEPT if name in line}
    return kept | {"loss": float(f"{line['loss']:.5g}")}


def record() -> Path:
    """Train both runs, write their settings and log lines to `FILE`, and return its path."""
    sides = {}
    for side, nano in RUNS.items():
        settings = {name: getattr(nano, name) for name in ("method", "strength", "softmax", "limit_groups")}
        lines = [trimmed(line) for line in tqdm(train_nano(nano), desc=side, total=nano.steps, unit="step")]
        sides[side] = {"settings": settings, "lines": lines}
    FILE.write_bytes(gzip.compress(json.dumps(sides, separators=(",", ":")).encode(), 9, mtime=0))
    return FILE


@click.command()
def main() -> None:
    """Train both runs, and write their logs; a run takes at most a minute on two cores."""
    path = record()
    click.echo(f"{path.name}  {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
