"""The report's section on load: the experts of one layer, all layers, and measures of balance."""

import math

from model.report.parts import lacking, remark, section, tag, three
from model.report.subject import MOST_LAYERS, Subject
from model.trace import load as loads
from model.trace.load import Load
from viz.report import load as figures
from viz.report.markup import table


def section_of(subject: Subject) -> str:
    """Return the section on load."""
    if subject.no_routing:
        return section("load", "Expert load", "", lacking(subject.no_routing))
    load, layer = subject.load, subject.choice.layer
    if not load.num_tokens:
        return section("load", "Expert load", "", lacking("The trace holds no token whose experts are all known."))
    assert layer is not None
    layers = load.counts["moe_layer"].values.tolist()
    part = subject.layers_shown(layers)
    of_token = subject.trace.data["expert_id"].isel(token=subject.choice.token).sel(moe_layer=layer).values
    bars = figures.load_bars(
        load.ratio.sel(moe_layer=layer), load.rule, layer, load.band, tuple(of_token[of_token >= 0].tolist())
    )
    whole = figures.load_map(load.ratio.isel(moe_layer=part), load.rule, load.band, layer)
    return section(
        "load", "Expert load", verdict(load), bars, remark(_bars_meaning(load, layer, subject.choice.token)), whole,
        figures.legend(), remark(_map_meaning(load), _left_out(len(layers)), _few(load)), _by_layer(load, part),
    )  # fmt: skip


def verdict(load: Load) -> str:
    """Return a sentence on whether the load is even, as HTML."""
    if load.band is None:
        return "The trace does not say how its model routes, so the range of chance is unknown."
    layers = load.counts.sizes["moe_layer"]
    uneven = f"<strong>{load.num_uneven} of {layers} layers</strong>"
    outside = f"{load.num_outside:,} of {load.counts.size:,} experts are outside the range of chance."
    return f"In {uneven} the busiest expert has more tokens than chance explains. {outside} {tag('derived')}"


def _bars_meaning(load: Load, layer: int, token: int) -> str:
    band = "" if load.band is None else (
        f" The grey band is the range of chance: for {load.num_tokens:,} tokens, a router that chooses at random keeps "
        f"all experts of a layer in it in {100 * load.band.confidence:.3g} % of cases."
    )  # fmt: skip
    return (
        f"Layer {layer}, a bar per expert: its number of tokens divided by a fair share, the dashed line. "
        f"A cross is an expert without a token; dots mark the experts of token {token}.{band}"
    )


def _map_meaning(load: Load) -> str:
    dots = " A dot marks a load that chance alone does not explain." if load.band else ""
    return (
        f"All layers, a cell per expert. Blue is less than a fair share, orange more.{dots} A text of one kind uses "
        "some experts more than others, so such a load need not be a fault."
    )


def _left_out(number: int) -> str:
    return f"Figure and table show {MOST_LAYERS} of {number:,} layers." if number > MOST_LAYERS else ""


def _few(load: Load) -> str:
    if load.num_unknown:
        plural = "s" * (load.num_unknown > 1)
        return f"Not counted: {load.num_unknown:,} token{plural} whose experts the trace does not hold."
    return ""


def _by_layer(load: Load, part: slice) -> str:
    """Return the table of measures by layer, below a row with the bounds of chance."""
    header = ["layer", "MaxVio", "busiest", "its tokens", "without a token", "outside chance"]
    measures = loads.by_layer(load).isel(moe_layer=part)
    rows = []
    if (band := load.band) is not None:
        rows.append(["chance, at most", three(band.max_violation), "–", "–", f"{band.num_dead}", "0"])
    for layer in measures["moe_layer"].values.tolist():
        at = measures.sel(moe_layer=layer)
        share = f"{int(at['most']):,} of {load.num_tokens:,}"
        outside = "–" if load.band is None else str(int(at["outside"]))
        violation = float(at["max_violation"])
        busiest = "–" if math.isnan(violation) else f"E{int(at['busiest'])}"
        rows.append([f"L{layer}", three(violation), busiest, share, str(int(at["dead"])), outside])
    return table(header, rows, "layers", {"layer"})


def origins(subject: Subject) -> dict[str, str]:
    """Return for each kind of numbers in this section how they came about; without routing, nothing."""
    if subject.no_routing:
        return {}
    kinds = {"load ratios, MaxVio": "derived"}
    if subject.load.band is not None:
        kinds |= {
            "range of chance of a load (exact)": "derived",
            "experts that chance leaves without a token": "simulated",
        }
    return kinds
