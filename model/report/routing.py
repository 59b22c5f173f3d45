"""The report's sections on routing: the map of one layer, and the decision for one token."""

from typing import Any

import numpy as np
import xarray as xr

from model.report.parts import lacking, listed, remark, section, tag, three
from model.report.subject import MOST_LAYERS, Subject
from model.report.text import cut
from model.trace import changes, lost_experts
from model.trace.decision import Decision, needed_for_decision
from model.trace.imports import origin
from model.trace.observed_rule import rule_known
from viz.report import decision as decision_figure
from viz.report import routing as figures
from viz.report.markup import element, table, text
from viz.routing import LOST_TO_BIAS, LOST_TO_GROUP

_NAMES = {"to_bias": LOST_TO_BIAS, "to_groups": LOST_TO_GROUP}
_VARIABLES = {"router_score": "affinities", "expert_bias": "biases", "router_logit": "router logits"}
_NEXT = 4  # experts below the cut in the table


def of_layer(subject: Subject) -> str:
    """Return the section with the map of all tokens in the chosen layer."""
    if subject.no_routing:
        return section("routing", "Routing", "", lacking(subject.no_routing))
    shown, trace, layer = subject.shown, subject.trace, subject.choice.layer
    at = trace.data[_recorded(subject, ("expert_id", "gate_weight", "router_score"))].sel(moe_layer=layer)
    drawn = figures.routing_map(
        at.isel(token=slice(shown.start, shown.stop)), subject.rule, shown.start, subject.labels(), subject.choice.token
    )
    rule, number = subject.rule, int(subject.known.sum())
    answer = f"In {subject.layer_name}, each of {number:,} tokens went to {rule.top_k} of {rule.num_experts} experts"
    groups = f", in {rule.num_kept_groups} of {rule.num_groups} groups" if rule.num_groups > 1 else ""
    meaning = ["A row is a token, a column an expert. A coloured cell is a chosen expert."]
    meaning += ["A stronger colour is a larger weight."] if "gate_weight" in at else ["The weights are unknown."]
    meaning += ["Grey is affinity, the router's score."] if "router_score" in at else []
    return section(
        "routing", f"Routing in {_block(subject)}", f"{answer}{groups}. {tag(origin.routing_kind(trace))}", drawn,
        remark(*meaning, cut(subject)), _changed(subject),
    )  # fmt: skip


def _block(subject: Subject) -> str:
    assert subject.choice.layer is not None
    return f"layer {subject.trace.shape.block_name(subject.choice.layer)}"


def _recorded(subject: Subject, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if subject.trace.has(name)]


def _changed(subject: Subject) -> str:
    edits = [text(phrase, 120) for phrase in changes.in_words(subject.trace)]
    more = f" and {len(edits) - 12:,} more" if len(edits) > 12 else ""
    return remark(f"This run was changed: {', '.join(edits[:12])}{more}.") if edits else ""


def of_token(subject: Subject) -> str:
    """Return the section with one token's path through the layers, and its decision in the chosen layer."""
    heading = f"One token: {subject.choice.token}"
    if subject.no_routing:
        return section("token", heading, "", lacking(subject.no_routing))
    trace, token = subject.trace, subject.choice.token
    names = ("expert_id", "gate_weight", "router_score", "group_kept")
    at = trace.data[_recorded(subject, names)].isel(token=token)
    lost = {_NAMES[str(name)]: mask for name, mask in lost_experts.masks(trace, token).data_vars.items()}
    layers = at["moe_layer"].values.tolist()
    part = subject.layers_shown(layers)
    drawn = figures.token_path(
        at.isel(moe_layer=part), subject.rule, {name: mask.isel(moe_layer=part) for name, mask in lost.items()},
        subject.choice.layer,
    )  # fmt: skip
    kept = "group_kept" in at and subject.rule.num_groups > 1
    legend = figures.legend("gate_weight" in at, lost, kept)
    number = len(layers)
    left_out = (
        f"The figure shows {MOST_LAYERS} of {number:,} layers, those around the chosen one."
        if number > MOST_LAYERS
        else ""
    )
    meaning = "A row is a MoE layer, the first at the bottom; the dotted lines mark the layer of the decision below."
    lost_of_layer = {name: mask.sel(moe_layer=subject.choice.layer) for name, mask in lost.items()}
    return section(
        "token",
        heading,
        _went(subject, at),
        drawn,
        legend,
        remark(meaning, left_out),
        *_decision(subject, lost_of_layer),
    )


def _went(subject: Subject, at: xr.Dataset) -> str:
    here = at.sel(moe_layer=subject.choice.layer)
    ids = [expert for expert in here["expert_id"].values.tolist() if expert >= 0]
    who = subject.token(subject.choice.token)
    if not ids:
        return f"The trace does not hold the experts of {who} in {subject.layer_name}."
    weights = here["gate_weight"].values.tolist() if "gate_weight" in here else [np.nan] * len(ids)
    slots = [
        f"E{expert}" + ("" if np.isnan(weight) else f" (weight {weight:.3g})")
        for expert, weight in zip(ids, weights, strict=False)
    ]
    kind = tag(origin.routing_kind(subject.trace))
    return f"In {subject.layer_name}, {who} went to <strong>{listed(slots)}</strong>. {kind}"


def _decision(subject: Subject, lost: dict[str, xr.DataArray]) -> list[str]:
    """Return the figure, sentences and table of the decision in the chosen layer, or why there is none."""
    trace, layer = subject.trace, subject.choice.layer
    assert layer is not None
    heading = element("h3", f"The decision in {subject.layer_name}")
    if not rule_known(trace):
        note = f" ({trace.router.note})" if trace.router and trace.router.note else ""
        return [heading, lacking(f"The rule by which this router selects experts is not known{note}.")]
    if missing := [name for name in needed_for_decision(trace) if not trace.has(name)]:
        why = subject.reason("score")
        names = listed([_VARIABLES.get(name, name) for name in missing])
        return [heading, lacking(f"This trace does not hold {names}, so the decision cannot be shown.{why}")]
    decision = Decision.of(trace, subject.choice.token, layer)
    bias_on = "logit" if decision.rule.bias_on_logits else "affinity"
    drawn = decision_figure.steps(decision.experts, decision.rule, lost, decision.by_table, bias_on)
    meaning = remark(_panels_meaning(decision))
    return [heading, element("p", because(decision)), drawn, meaning, _experts_near_the_cut(decision, lost)]


def _panels_meaning(decision: Decision) -> str:
    if decision.by_table:
        return "Coloured bars are the chosen experts."
    groups = " Pale dots belong to groups that were not kept." if decision.groups else ""
    cut = "The dashed line is the lowest score of a chosen expert."
    return f"Coloured bars and squares are the chosen experts, dots the others.{groups} {cut}"


def because(decision: Decision) -> str:
    """Return sentences on one decision, as HTML."""
    chosen = decision.chosen
    if not len(chosen):
        return "The trace does not say which experts were chosen."
    if decision.by_table:
        return (
            "Here a table gives the experts of each token id, so no score decides. The affinities only give the "
            "weights."
        )
    sentences = []
    if np.isfinite(decision.group_margin):
        kept = [str(group) for group in np.flatnonzero(decision.groups["kept"].values).tolist()]
        margin = f"{decision.group_margin:.2g}{_near(decision.group_near)}"
        sentences.append(f"Groups {listed(kept)} were kept, the last of them by a margin of {margin}.")
    if np.isfinite(decision.place_margin):
        margin = f"{decision.place_margin:.2g}{_near(decision.place_near)}"
        sentences.append(f"E{chosen[-1]} was the last expert chosen, by a margin of {margin}.")
    if not decision.untouched:
        sentences.append("The run was changed in this layer, so the choice need not follow from these scores.")
    elif not decision.follows_scores:
        sentences.append("The recorded scores do not give the recorded choice.")
    if not sentences:
        sentences.append("The trace lacks what the margins of this decision need.")
    return f"{' '.join(sentences)} {tag('derived')}"


def _near(near: bool) -> str:
    return " (a near tie: rounding could change it)" if near else ""


def _experts_near_the_cut(decision: Decision, lost: dict[str, xr.DataArray]) -> str:
    """Return the table of the selected experts and of the best ones that were not selected."""
    data: dict[str, Any] = {str(name): values.values for name, values in decision.experts.data_vars.items()}
    others = np.flatnonzero(~data["chosen"])
    best = others[np.argsort(-np.where(data["reachable"], data["biased"], -np.inf)[others], kind="stable")][:_NEXT]
    marked = [int(expert) for mask in lost.values() for expert in np.flatnonzero(mask.values)]
    shown = list(dict.fromkeys([*decision.chosen.tolist(), *best.tolist(), *marked]))
    has_bias, grouped = bool(data["bias"].any()), bool(decision.groups)
    header = ["expert", *(["group"] if grouped else []), "affinity", *(["bias", "biased score"] if has_bias else [])]
    rows = []
    for expert in shown:
        reasons = [name for name, mask in lost.items() if mask.values[expert]]
        state = "chosen" if data["chosen"][expert] else ", ".join(reasons) or _not_chosen(data, expert)
        cells = [f"E{expert}", *([str(data["group"][expert])] if grouped else []), f"{data['affinity'][expert]:.4g}"]
        cells += [f"{data[name][expert]:.4g}" for name in ("bias", "biased")] if has_bias else []
        rows.append([*cells, three(float(data["weight"][expert])), text(state)])
    return table([*header, "weight", "verdict"], rows, "near", {"expert", "verdict"})


def _not_chosen(data: dict[str, Any], expert: int) -> str:
    return "not chosen" if data["reachable"][expert] else "its group was not kept"


def origins(subject: Subject) -> dict[str, str]:
    """Return for each kind of numbers in these sections how they came about; without routing, nothing."""
    trace = subject.trace
    if subject.no_routing:
        return {}
    kinds = {"chosen experts": origin.routing_kind(trace)}
    names = {
        "gate weights": "gate_weight",
        "affinities": "router_score",
        "biases": "expert_bias",
        "groups": "group_kept",
    }
    derived = origin.derived(trace)
    kinds |= {
        name: "derived" if variable in derived else origin.kind(trace)
        for name, variable in names.items()
        if trace.has(variable)
    }
    return kinds | {"margins, near ties, experts lost to bias or group limit": "derived"}
