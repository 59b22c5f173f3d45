"""Facts about the load of experts over all tokens of the run, and about the load that chance explains.

A load ratio is a load divided by a fair share. A fair router selects random experts (`model/trace/chance.py`).
"""

import numpy as np

from model.trace import chance
from model.trace.facts.lines import tokens_of_line
from model.trace.facts.sources import FactError, Sources
from model.trace.routing import share_interval

MOST_TOKENS = 10_000_000  # for which the bounds of chance are computed


def load(sources: Sources, layer: int, expert: int) -> int:
    """Return the number of tokens that selected an expert."""
    return int(_counts(sources, layer)[sources.expert(expert)])


def fair_load(sources: Sources) -> float:
    """Return the number of tokens of each expert with a uniform load."""
    return sources.load.num_tokens * sources.rule.fair_share


def load_ratio(sources: Sources, layer: int, expert: int) -> float:
    """Return the load of an expert divided by a fair share."""
    return load(sources, layer, expert) / fair_load(sources)


def busiest(sources: Sources, layer: int) -> int:
    """Return the expert with the most tokens in a layer."""
    return int(_counts(sources, layer).argmax())


def max_violation(sources: Sources, layer: int) -> float:
    """Return the MaxVio of a layer: the load ratio of its busiest expert, minus 1."""
    return load_ratio(sources, layer, busiest(sources, layer)) - 1


def chance_max_violation(sources: Sources, tokens: int | None = None) -> float:
    """Return the MaxVio that a fair router stays below in 95 % of layers, for a number of tokens.

    Without a number, for the tokens of the run.
    """
    return _band(sources, tokens).max_violation


def chance_idle(sources: Sources, tokens: int | None = None) -> float:
    """Return the number of a layer's experts that a fair router leaves without a token, on average."""
    return _band(sources, tokens).dead


def idle(sources: Sources, layer: int) -> int:
    """Return the number of experts of a layer without a token."""
    return int((_counts(sources, layer) == 0).sum())


def tokens_to_call_idle(sources: Sources) -> int:
    """Return the smallest number of tokens for which chance no longer explains an expert without a token."""
    return sources.load.fewest


def uneven_layers(sources: Sources) -> int:
    """Return the number of layers with a MaxVio above a fair router's bound."""
    return sources.load.num_uneven


def least_even_layer(sources: Sources) -> int:
    """Return the layer with the largest MaxVio."""
    return sources.load.least_even[0]


def share_low(sources: Sources, layer: int, expert: int) -> float:
    """Return the lower end of the 95 % interval of an expert's share of the tokens (Wilson), from 0 to 1."""
    return share_interval(load(sources, layer, expert), sources.load.num_tokens)[0]


def share_high(sources: Sources, layer: int, expert: int) -> float:
    """Return the upper end of the 95 % interval of an expert's share of the tokens (Wilson), from 0 to 1."""
    return share_interval(load(sources, layer, expert), sources.load.num_tokens)[1]


def line_overlap(sources: Sources, line: int, other: int, layer: int) -> float:
    """Return how far two lines of the text share the experts of a layer: 0 none, 1 in equal proportions.

    It is the sum over experts of the smaller of both lines' shares of choices.
    """
    shares = [_line_shares(sources, number, layer) for number in (line, other)]
    return float(np.minimum(*shares).sum())


def line_busiest(sources: Sources, line: int, layer: int) -> int:
    """Return the expert that the most tokens of a line selected in a layer."""
    return int(_line_shares(sources, line, layer).argmax())


def line_max_violation(sources: Sources, line: int, layer: int) -> float:
    """Return the MaxVio of a layer over the tokens of one line of the text."""
    return float(_line_shares(sources, line, layer).max() * sources.rule.num_experts - 1)


def _counts(sources: Sources, layer: int) -> np.ndarray:
    sources.at("expert_id", layer)
    return sources.load.counts.sel(moe_layer=layer).values


def _line_shares(sources: Sources, line: int, layer: int) -> np.ndarray:
    """Return the share of a line's choices that each expert got, [expert]."""
    ids = sources.at("expert_id", layer)[tokens_of_line(sources.trace, line)]
    counts = np.bincount(ids[ids >= 0].ravel(), minlength=sources.rule.num_experts)
    if not counts.any():
        raise FactError(f"line {line} has no token with known experts")
    return counts / counts.sum()


def _band(sources: Sources, tokens: int | None) -> chance.LoadBand:
    number = sources.load.num_tokens if tokens is None else tokens
    if number > MOST_TOKENS:
        raise FactError(f"the bounds of chance are computed for at most {MOST_TOKENS:,} tokens, not for {number:,.0f}")
    band = chance.band_of(sources.rule, number)
    if band is None:
        raise FactError("the bounds of chance are not known for this router")
    return band
