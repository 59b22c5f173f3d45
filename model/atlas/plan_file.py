"""Make a plan from a sweep, and write it as JSON; docs/plan.md describes the file.

Shape suffixes: L MoE layers, E experts.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.atlas import plan_bits
from model.atlas.folder import Sweep
from model.atlas.plan import (
    FEW,
    RULES,
    Sums,
    lowest,
    missing_rules,
    most_cut,
    number_to_cut,
    saliency,
    sums_of,
)
from model.atlas.rule import rule_of
from model.trace.writing import replacing, strict

FORMAT, VERSION = "moe-loupe plan", 1
COVERAGE_NOTE = (
    "Few tokens make the statistics of an expert thin: REAP, norms, an importance matrix. llm-compressor calibrates "
    "all experts on all tokens by default (moe_calibrate_all_experts), and a low count does not hurt that."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A plan: which routed experts to cut in each layer.

    Attributes:
        entries: the whole file, as JSON values.
        layers: numbers of the MoE layers.
        cut_LE: mask of the experts to cut.
    """

    entries: Mapping[str, Any]
    layers: tuple[int, ...]
    cut_LE: np.ndarray

    @property
    def number(self) -> int:
        """Number of experts that each layer loses."""
        return int(self.cut_LE[0].sum())


def make_plan(sweep: Sweep, keep: float, rule_name: str, mean_bits: float) -> Plan:
    """Return the plan that keeps at least a share of each layer's experts, by a rule of saliency.

    Args:
        sweep: the sweep.
        keep: share of the experts to keep.
        rule_name: key of `RULES`.
        mean_bits: mean number of bits per weight, for the suggested bits.

    Raises:
        AtlasError: the sweep lacks the sums of the rule, or the router cannot bear the cut.
    """
    sums, router = sums_of(sweep), rule_of(sweep)
    number = number_to_cut(router, keep)
    by_rule = {name: saliency(sums, name) for name in RULES if name not in missing_rules(sums)}
    cut_LE = lowest(saliency(sums, rule_name), router.num_groups, number)
    layer_bits, expert_bits = _bits(sums, mean_bits)
    layers = []
    for index, layer in enumerate(sweep.layers):
        entry: dict[str, Any] = {
            "layer": layer,
            "kept": np.flatnonzero(~cut_LE[index]).tolist(),
            "cut": np.flatnonzero(cut_LE[index]).tolist(),
            "tokens": sums.tokens[index].tolist(),
            "documents": sums.documents[index].tolist(),
            "saliency": {name: values[index].tolist() for name, values in by_rule.items()},
        }
        if layer_bits is not None and expert_bits is not None:
            entry |= {"bits": int(layer_bits[index]), "bits_per_expert": expert_bits[index].tolist()}
        layers.append(entry)
    entries = {
        "format": FORMAT,
        "version": VERSION,
        "sweep": _about_sweep(sweep),
        "model": {name: sweep.manifest.model.get(name) for name in ("name", "weights_sha256", "num_experts", "top_k")},
        "groups": {"number": router.num_groups, "kept": router.num_kept_groups, "most_cut": most_cut(router)},
        "rule": rule_name,
        "rules": {name: RULES[name].meaning for name in by_rule},
        "missing_rules": missing_rules(sums),
        "keep": {"asked": keep, "share": 1 - number / router.num_experts, "cut_per_layer": number},
        "bits": {"mean": mean_bits, "widths": list(plan_bits.WIDTHS), "note": plan_bits.NOTE},
        "coverage": _coverage(sums, sweep.layers),
        "notes": _notes(sweep, router.num_groups),
        "layers": layers,
        "check": None,
    }
    return Plan(entries, sweep.layers, cut_LE)


def agreement(plan: Plan) -> dict[str, int]:
    """Return how many of a plan's cut experts each rule of its file would cut too."""
    groups = plan.entries["groups"]["number"]
    by_rule = {
        name: np.array([layer["saliency"][name] for layer in plan.entries["layers"]]) for name in plan.entries["rules"]
    }
    return {name: int((lowest(rows, groups, plan.number) & plan.cut_LE).sum()) for name, rows in by_rule.items()}


def _bits(sums: Sums, mean: float) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return bits per layer [L] and per expert [L, E]; None if the sweep holds no norms."""
    if "weighted_norm2_sum" not in sums.values:
        return None, None
    errors_LE = sums.values["weighted_norm2_sum"].astype(np.float64)
    layer_bits = plan_bits.allocate(errors_LE.sum(1), mean)
    rows = [plan_bits.allocate(errors_E, bits) for errors_E, bits in zip(errors_LE, layer_bits.tolist(), strict=True)]
    return layer_bits, np.array(rows)


def _about_sweep(sweep: Sweep) -> dict[str, Any]:
    tokens = int(np.asarray(sweep.documents["tokens"]).sum())
    about = {"hash": sweep.manifest.hash, "documents": len(sweep.documents), "tokens": tokens}
    return about | {"policy": dict(sweep.manifest.policy), "inputs": [each["name"] for each in sweep.manifest.inputs]}


def _coverage(sums: Sums, layers: tuple[int, ...]) -> dict[str, Any]:
    """Return how many tokens the experts have, and a list of those with fewer than `FEW`."""
    thin = np.argwhere(sums.tokens < FEW).tolist()
    under = [
        {
            "layer": layers[layer],
            "expert": expert,
            "tokens": int(sums.tokens[layer, expert]),
            "documents": int(sums.documents[layer, expert]),
        }
        for layer, expert in thin
    ]
    fewest = {"tokens": int(sums.tokens.min()), "documents": int(sums.documents.min())}
    share = len(thin) / sums.tokens.size
    return {"threshold": FEW, "fewest": fewest, "share_under": share, "under": under, "note": COVERAGE_NOTE}


def _notes(sweep: Sweep, num_groups: int) -> list[str]:
    notes = ["shared experts are neither scored nor cut"]
    if num_groups == 1 and "n_group" not in (sweep.manifest.model.get("config") or {}):
        notes.append("the configuration states no groups of experts, so the cut keeps to none")
    return notes


# --- files ------------------------------------------------------------------------------------------------------------


def write(plan: Plan, path: Path, check: Mapping[str, Any] | None = None) -> None:
    """Write a plan, with the results of its check if there are any; completely or not at all."""
    text = json.dumps(strict({**plan.entries, "check": check}), indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_easy_ep(plan: Plan, path: Path) -> None:
    """Write the mask that EASY-EP's patched SGLang reads: a row per MoE layer, 1 for each kept expert."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps((~plan.cut_LE).astype(float).tolist()), encoding="utf-8")
