"""Trains the nano model with several kinds of balancing, and writes the logs for the Training page.

    python -m model.train.demo.failing

One run succeeds; every other run fails in a different way. Only the logs are kept.
"""

import click
from tqdm import tqdm

from model.train.demo.nano import BIAS, LOSS, NOTHING, Nano, train_nano
from model.train.summary import summarise, write

RUNS = {
    "nano bias": (Nano(BIAS, 0.02), "Balanced by the selection bias alone, as DeepSeek-V3 is: it goes well."),
    "nano nothing": (Nano(NOTHING, 0.0), "Nothing balances the experts: a few take nearly all tokens from the start."),
    "nano weak bias": (Nano(BIAS, 0.0005), "The bias moves too slowly: a few experts win before it catches up."),
    "nano fast bias": (Nano(BIAS, 0.2), "The bias moves too fast: loads swing, and the affinities count little."),
    "nano loss": (
        Nano(LOSS, 0.01),
        "Balanced by an auxiliary loss, as before V3: weaker, and part of the gradient.",
    ),
    "nano strong loss": (Nano(LOSS, 1.0), "The auxiliary loss is too strong: loads are even, and the text suffers."),
    "nano softmax": (Nano(NOTHING, 0.0, softmax=True), "Affinities compete through a softmax, and nothing balances."),
    "nano no groups": (Nano(NOTHING, 0.0, limit_groups=False), "No group limit, and nothing balances."),
}


@click.command()
def main() -> None:
    """Train all runs, and write their logs; a run takes at most a minute on two cores."""
    for name, (nano, says) in RUNS.items():
        lines = list(tqdm(train_nano(nano), desc=name, total=nano.steps, unit="step"))
        path = write(summarise(lines, name, says))
        click.echo(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
