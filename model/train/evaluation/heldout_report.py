"""Tables of a model card from scores on held-out text: bits per byte, load balance, specialisation.

Balance is reported for the held-out text as it is, with each stream weighted by its training share, and for each stream
alone. Specialisation is the mutual information of the selected expert with the domain, the language, and both.
Intervals, and the values that chance alone gives, treat documents, not tokens, as independent.

Shape suffixes: D documents, P pieces, S streams, L MoE layers, E experts.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.5.3 (load by domain).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from model.trace import metrics
from model.trace.documents import ratio_interval
from model.trace.information import counts_by_label
from model.train.evaluation.heldout import Scores
from model.train.evaluation.specialisation import (
    DRAWS,
    Information,
    Strongest,
    information,
    strongest,
)

LABELS = {"domain": slice(0, 1), "language": slice(1, 2), "domain and language": slice(0, 2)}  # parts of domain.lang


def summarise(scores: Scores, weights: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the numbers of all tables as JSON values.

    Args:
        scores: scores of all pieces.
        weights: training share of each stream; None: leave out the weighted balance.
    """
    scores = scores.by_document
    tokens_S = np.bincount(scores.stream_P, scores.tokens_P)
    bytes_S = np.bincount(scores.stream_P, scores.bytes_P)
    bits = scores.bits_per_byte()
    counts_SLE = counts_by_label(scores.counts_PLE, scores.stream_P)
    streams = {
        name: {
            "bits_per_byte": bits[name],
            **_bits_interval(scores, number),
            "bytes": int(bytes_S[number]),
            "documents": int((scores.stream_P == number).sum()),
            "tokens": int(tokens_S[number]),
            "max_violation": _balance(counts_SLE[number], scores)["max_violation"],
        }
        for number, name in enumerate(scores.streams)
    }
    balance = {"as it is": _balance(counts_SLE.sum(0), scores)}
    if weights is not None:
        shares_S = np.array([weights.get(name, 0.0) for name in scores.streams])
        balance["weighted as in training"] = _balance(np.einsum("s,sle->le", shares_S / tokens_S, counts_SLE), scores)
    information_by_label, strongest_rows = _specialisation(scores)
    return {
        "streams": streams,
        "balance": balance,
        "information": information_by_label,
        "strongest": strongest_rows,
        "layers": list(scores.moe_layers),
        "tokens": int(scores.tokens_P.sum()),
        "documents": len(scores.stream_P),
    }


def _bits_interval(scores: Scores, stream: int) -> dict[str, float | None]:
    """Return the 95 % interval of a stream's bits per byte over its documents; None if there are too few documents."""
    own_D = scores.stream_P == stream
    low, high = ratio_interval(scores.nats_P[own_D] / math.log(2), scores.bytes_P[own_D])
    return {"low": _known(float(low)), "high": _known(float(high))}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _balance(counts_LE: np.ndarray, scores: Scores) -> dict[str, list[float]]:
    counts = xr.DataArray(counts_LE, dims=("moe_layer", "expert"), coords={"moe_layer": list(scores.moe_layers)})
    return {
        "max_violation": metrics.max_violation(counts).values.tolist(),
        "coefficient_of_variation": metrics.coefficient_of_variation(counts).values.tolist(),
        "dead_experts": metrics.dead_experts(counts).sum("expert").values.tolist(),
    }


def _specialisation(scores: Scores) -> tuple[dict[str, list[dict[str, float]]], list[dict[str, Any]]]:
    """Return mutual information by label and layer, and the strongest expert of each domain and language."""
    information_by_label, strongest_rows = {}, []
    for label, part in LABELS.items():
        kind_of_stream = [".".join(name.split(".")[part]) for name in scores.streams]
        kinds = sorted(set(kind_of_stream))
        kind_D = np.array([kinds.index(kind) for kind in kind_of_stream])[scores.stream_P]
        information_by_label[label] = [_plain(row) for row in information(scores.counts_PLE, kind_D)]
        if label != "domain and language" and scores.moe_layers:
            rows = strongest(scores.counts_PLE, scores.tokens_P, kind_D, kinds, scores.moe_layers)
            strongest_rows.extend({"label": label, **_plain(row)} for row in rows)
    return information_by_label, strongest_rows


def _plain(row: Information | Strongest) -> dict[str, Any]:
    return {name: _known(value) if isinstance(value, float) else value for name, value in row._asdict().items()}


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables of a summary in Markdown."""
    return "\n\n".join([_streams(summary), _balances(summary), _information(summary), _strongest(summary)])


def _streams(summary: Mapping[str, Any]) -> str:
    layers = summary["layers"]
    load = "".join(f" MaxVio L{layer} |" for layer in layers)
    lines = [
        f"| held-out text | bits per byte | 95 % | kB | documents | tokens |{load}",
        f"|---|{'---:|' * (5 + len(layers))}",
    ]
    for name, row in summary["streams"].items():
        load = "".join(f" {value:.2f} |" for value in row["max_violation"])
        numbers = f"{row['bytes'] / 1000:.0f} | {row['documents']:,} | {row['tokens']:,}"
        lines.append(f"| {name} | {row['bits_per_byte']:.3f} | {_interval(row, '.3f')} | {numbers} |{load}")
    return "\n".join(lines)


def _interval(row: Mapping[str, Any], form: str) -> str:
    """Return the interval of a row in words, or that there are too few documents for one."""
    return "too few documents" if row["low"] is None else f"{row['low']:{form}} to {row['high']:{form}}"


def _balances(summary: Mapping[str, Any]) -> str:
    lines = ["| held-out text | layer | MaxVio | CV | dead experts |", "|---|---:|---:|---:|---:|"]
    for name, columns in summary["balance"].items():
        for layer, *values in zip(summary["layers"], *columns.values(), strict=True):
            lines.append(f"| {name} | {layer} | {values[0]:.3f} | {values[1]:.3f} | {values[2]:.0f} |")
    return "\n".join(lines)


def _information(summary: Mapping[str, Any]) -> str:
    lines = [
        f"Mutual information in nats, over {summary['documents']:,} documents: as measured; by chance (kinds shuffled "
        f"among the documents, {DRAWS} times); corrected, the difference; its 95 % interval (documents drawn again).",
        "",
        "| expert and | layer | measured | by chance | corrected | 95 % interval | p |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for label, rows in summary["information"].items():
        for layer, row in zip(summary["layers"], rows, strict=True):
            values = f"{row['nats']:.3f} | {row['shuffled']:.4f} | {row['corrected']:.3f} | {_interval(row, '.3f')}"
            lines.append(f"| {label} | {layer} | {values} | {row['p']:.3f} |")
    return "\n".join(lines)


def _strongest(summary: Mapping[str, Any]) -> str:
    lines = [
        "| kind of text | strongest expert | share of the kind's tokens | 95 % | of all others | documents | tokens |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in summary["strongest"]:
        name = f"L{row['layer']}E{row['expert']}"
        shares = f"{row['share']:.0%} | {_interval(row, '.0%')} | {row['elsewhere']:.1%}"
        lines.append(f"| {row['label']} {row['kind']} | {name} | {shares} | {row['documents']:,} | {row['tokens']:,} |")
    return "\n".join(lines)
