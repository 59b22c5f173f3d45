"""The results of a plan's check against values worked out by hand."""

import math

import pytest

from model.sweep.plan_report import report
from model.trace.rollout import FIGURES

LAYERS = (3, 4)


def sums(bits: list[float], split: float = 0.0, number: int = 20) -> dict[str, list[float]]:
    """Sums of 20 documents of 10 tokens and 8 bytes; the bits alternate, and every figure is `split` of its 10."""
    columns = {f"{name} {part}": [value] * number for name in FIGURES for part, value in (("/", split), ("n", 10.0))}
    columns |= {f"layer {index}": [split * index] * number for index in range(len(LAYERS))}
    whole = (bits * number)[:number]
    return columns | {"bits": whole, "bytes": [8.0] * number, "tokens": [10.0] * number}


VARIANTS = {"as trained": sums([16.0, 16.0]), "plan": sums([17.0, 19.0], 4.0),
            "random 1": sums([20.0, 24.0], 6.0), "random 2": sums([17.0, 18.0], 2.0)}  # fmt: skip


def test_harm_is_in_bits_per_byte_with_an_interval_over_documents() -> None:
    result = report(VARIANTS, LAYERS, {"model": "x"})
    assert (result["model"], result["documents"], result["tokens"], result["as_trained"]) == ("x", 20, 200, 2.0)
    reach = 2.0930 * math.sqrt(20 / 19 * 20 * 1.0**2) / 160  # residuals of +-1 bit
    assert result["plan"] == pytest.approx(
        {"bits_per_byte": 2.25, "harm": 0.25, "low": 0.25 - reach, "high": 0.25 + reach}, abs=1e-5
    )


def test_random_plans_stand_beside_the_plan() -> None:
    result = report(VARIANTS, LAYERS, {})
    assert [row["harm"] for row in result["random"]] == [0.75, 0.1875]
    assert result["beaten"] == 1
    assert (result["closest"]["plan"], result["closest"]["harm"]) == ("random 2", -0.0625)
    assert result["average"]["harm"] == pytest.approx(0.46875 - 0.25)
    first = result["damage"][0]
    assert (first["figure"], first["value"], first["random_low"], first["random_high"]) == (
        "split-share",
        0.4,
        0.2,
        0.6,
    )
    assert result["split_share_by_layer"] == {"3": 0, "4": 0.4}


def test_few_documents_have_no_interval() -> None:
    few = {name: {column: values[:5] for column, values in each.items()} for name, each in VARIANTS.items()}
    result = report(few, LAYERS, {})
    assert (result["plan"]["low"], result["damage"][0]["low"]) == (None, None)
