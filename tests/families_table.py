"""The table of families in the README: what a run of each records, found by running its tiny model.

`python -m tests.families_table` prints it.
"""

from model.families.engine import TransformersEngine
from tests.families import FAMILIES, saved

HEADER = ("model type", "router", "bias", "groups", "attention", "layer inputs", "what if")
SCORINGS = {"softmax": "softmax", "sigmoid": "sigmoid", "sqrtsoftplus": "√softplus", "identity": "probabilities"}


def cells(model_type: str, engine: TransformersEngine) -> tuple[str, ...]:
    """Return a family's row."""
    found, layout = engine.probed.found, engine.shape
    rule = found.rule
    if rule is None:
        router = "not known"
    elif not found.is_complete:
        router = f"{SCORINGS[rule.scoring]}; weights not known"
    else:
        router = SCORINGS[rule.scoring]
    layers = len(engine.probed.attention)
    return (
        f"`{model_type}`",
        router,
        "" if found.bias is None else "yes",
        "yes" if layout.num_groups > 1 else "",
        "all layers" if layers == layout.num_layers else "some layers" if layers else "",
        "yes" if "inputs" in engine.abilities.captures else "",
        "all" if "ForceExpert" in engine.abilities.interventions else "knock-out, replay",
    )


def line(row: tuple[str, ...]) -> str:
    """Return a row of the table."""
    return f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |")


def main() -> None:
    """Print the table."""
    print(line(HEADER))
    print("|---" * len(HEADER) + "|")
    for model_type in FAMILIES:
        if model_type != "doge":
            print(line(cells(model_type, TransformersEngine.load(saved(model_type), device="cpu"))), flush=True)


if __name__ == "__main__":
    main()
