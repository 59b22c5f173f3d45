"""Tables of a model card from scores on held-out text: bits per byte, load balance, specialisation.

Balance is reported for the held-out text as it is, with each stream weighted by its training share, and for each stream
alone. Specialisation is the mutual information of the expert with the domain, with the language, and with both. Its
control shuffles the labels of the pieces.

Shape suffixes: P pieces, S streams, L MoE layers, E experts.

Source: DeepSeek-V3 report (arXiv 2412.19437), section 4.5.3 (load by domain).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from model.trace import metrics
from model.train.evaluation.heldout import Scores
from model.train.evaluation.specialisation import counts_by_kind, information, strongest

LABELS = {"domain": slice(0, 1), "language": slice(1, 2), "domain and language": slice(0, 2)}  # parts of domain.lang


def summarise(scores: Scores, weights: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the numbers of all tables as JSON values.

    Args:
        scores: scores of all pieces.
        weights: training share of each stream; None: leave out the weighted balance.
    """
    tokens_S = np.bincount(scores.stream_P, scores.tokens_P)
    bytes_S = np.bincount(scores.stream_P, scores.bytes_P)
    bits = scores.bits_per_byte()
    counts_SLE = counts_by_kind(scores.counts_PLE, scores.stream_P)
    streams = {
        name: {
            "bits_per_byte": bits[name],
            "bytes": int(bytes_S[number]),
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
    }


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
        kind_P = np.array([kinds.index(kind) for kind in kind_of_stream])[scores.stream_P]
        information_by_label[label] = [row._asdict() for row in information(scores.counts_PLE, kind_P)]
        if label != "domain and language" and scores.moe_layers:
            rows = strongest(scores.counts_PLE, scores.tokens_P, kind_P, kinds, scores.moe_layers)
            strongest_rows.extend({"label": label, **row._asdict()} for row in rows)
    return information_by_label, strongest_rows


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables of a summary in Markdown."""
    return "\n\n".join([_streams(summary), _balances(summary), _information(summary), _strongest(summary)])


def _streams(summary: Mapping[str, Any]) -> str:
    layers = summary["layers"]
    lines = [
        f"| held-out text | bits per byte | kB | tokens |{''.join(f' MaxVio L{layer} |' for layer in layers)}",
        f"|---|{'---:|' * (3 + len(layers))}",
    ]
    for name, row in summary["streams"].items():
        load = "".join(f" {value:.2f} |" for value in row["max_violation"])
        lines.append(f"| {name} | {row['bits_per_byte']:.3f} | {row['bytes'] / 1000:.0f} | {row['tokens']:,} |{load}")
    return "\n".join(lines)


def _balances(summary: Mapping[str, Any]) -> str:
    lines = ["| held-out text | layer | MaxVio | CV | dead experts |", "|---|---:|---:|---:|---:|"]
    for name, columns in summary["balance"].items():
        for layer, *values in zip(summary["layers"], *columns.values(), strict=True):
            lines.append(f"| {name} | {layer} | {values[0]:.3f} | {values[1]:.3f} | {values[2]:.0f} |")
    return "\n".join(lines)


def _information(summary: Mapping[str, Any]) -> str:
    lines = ["| expert and | layer | nats | 95 % interval | shuffled |", "|---|---:|---:|---:|---:|"]
    for label, rows in summary["information"].items():
        for layer, row in zip(summary["layers"], rows, strict=True):
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            lines.append(f"| {label} | {layer} | {row['nats']:.3f} | {interval} | {row['shuffled']:.4f} |")
    return "\n".join(lines)


def _strongest(summary: Mapping[str, Any]) -> str:
    lines = [
        "| kind of text | strongest expert | its share of the kind's tokens | of all others | tokens |",
        "|---|---|---:|---:|---:|",
    ]
    for row in summary["strongest"]:
        name = f"L{row['layer']}E{row['expert']}"
        shares = f"{row['share']:.0%} | {row['elsewhere']:.1%}"
        lines.append(f"| {row['label']} {row['kind']} | {name} | {shares} | {row['tokens']:,} |")
    return "\n".join(lines)
