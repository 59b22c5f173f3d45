"""The report's section on attention: the map of one head, and the tokens that the chosen token looks at most."""

import numpy as np
import xarray as xr

from model.report.parts import lacking, remark, section, tag
from model.report.subject import Subject
from model.trace import attention
from model.trace.cells import cell_sides, cells, whole
from model.trace.imports import origin
from viz.report import attention as figures
from viz.report.markup import table
from viz.thumbnails import head_numbers

_MOST_CELLS = 400  # per side of the map
_LISTED = 5  # keys in the table


def section_of(subject: Subject) -> str:
    """Return the section on attention, or on why there is none."""
    layer, head = subject.choice.attention_layer, subject.choice.head
    if layer is None or head is None:
        return section("attention", "Attention", "", lacking(_why_none(subject)))
    name = "all heads" if head == attention.ALL_HEADS else f"head {head}"
    weights = of_head(subject)
    window = whole(subject.trace.num_tokens)
    sides = cell_sides(window, _MOST_CELLS)
    drawn = figures.attention_map(
        cells(weights, window, _MOST_CELLS)["largest"], layer, "all" if head == attention.ALL_HEADS else str(head),
        subject.labels() if len(subject.shown) == subject.trace.num_tokens else None, subject.choice.token,
    )  # fmt: skip
    meaning = ["A row is a token that looks, a column a token that it looks at; the first is at the top left."]
    meaning += ["Dotted lines mark the row of the token that this report follows."]
    if max(sides) > 1:
        meaning.append(f"Each cell covers {sides[0]} x {sides[1]} pairs of tokens and shows the largest weight.")
    if head == attention.ALL_HEADS:
        meaning.append("The weights are the mean of the recorded heads.")
    row = weights.values[subject.choice.token]
    return section(
        "attention", f"Attention of {name} in layer {layer}", verdict(subject, row, name), drawn, remark(*meaning),
        _keys(subject, row),
    )  # fmt: skip


def of_head(subject: Subject) -> xr.DataArray:
    """Return the attention weights of the chosen head, or the mean of all recorded heads, [query, key]."""
    recorded = subject.trace.data["attention"].sel(attention_layer=subject.choice.attention_layer, drop=True)
    if subject.choice.head == attention.ALL_HEADS:
        return attention.mean_of_heads(recorded)
    return recorded.assign_coords(head=head_numbers(recorded)).sel(head=subject.choice.head, drop=True)


def kind(subject: Subject) -> str:
    """Return how the weights came about."""
    return "derived" if subject.choice.head == attention.ALL_HEADS else origin.kind(subject.trace)


def _why_none(subject: Subject) -> str:
    if subject.reason("attention"):
        return f"This trace does not hold attention weights.{subject.reason('attention')}"
    return (
        "This trace does not hold attention weights: the run did not record them, its text was too long for that, or "
        "its layers have none."
    )


def verdict(subject: Subject, row: np.ndarray, name: str) -> str:
    """Return a sentence on the token that the chosen token looks at most, as HTML."""
    token = subject.choice.token
    if np.isnan(row[: token + 1]).any():
        return f"It is not known where {subject.token(token)} looks in {name}: its keys do not name their tokens."
    key = int(row[: token + 1].argmax())
    other = subject.token(key) if key != token else "itself"
    elsewhere = attention.share_elsewhere(xr.DataArray(row))
    rest = f" {elsewhere:.1%} goes to no single token of the text." if elsewhere > 0.005 else ""
    who, share = subject.token(token), f"<strong>{other}: {row[key]:.1%}</strong>"
    return f"In {name}, {who} looks most at {share}.{rest} {tag(kind(subject))}"


def _keys(subject: Subject, row: np.ndarray) -> str:
    visible = np.nan_to_num(row[: subject.choice.token + 1], nan=-1.0)
    order = np.argsort(-visible, kind="stable")[:_LISTED].tolist()
    rows = [[subject.token(key), f"{row[key]:.3g}"] for key in order if visible[key] >= 0]
    return table(["looks most at", "weight"], rows, "keys", {"looks most at"}) if rows else ""


def origins(subject: Subject) -> dict[str, str]:
    """Return how the attention weights came about; nothing without attention."""
    return {} if subject.choice.head is None else {"attention weights": kind(subject)}
