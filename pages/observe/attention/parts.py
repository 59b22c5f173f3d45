"""The content part and the position part of a head's score, and the size of the KV cache with latent attention."""

import pandas as pd
import streamlit as st

from model.trace import kv_cache
from model.trace.attention import mean_of_heads
from model.trace.trace import Trace
from pages.common import controls, heads, session, tables, text
from pages.common.runs import Run
from pages.observe.attention import head_map, values
from pages.observe.attention.choices import Selection
from viz import attention as maps
from viz import heads as figures

FAR = 131_072  # tokens: context length of the released models
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def maps_of_parts(run: Run, chosen: Selection) -> None:
    """Draw maps of the two terms of a head's score before the softmax: content and position."""
    trace, token, window = heads.trace_of(run), chosen.token, chosen.window
    st.caption(
        "A head's score is the sum of two parts; the softmax of the scores is the attention. The content part "
        "depends on the two tokens, the position part also on the distance between them. Derived from layer "
        f"{chosen.layer}'s recorded input with the model's weights; n = {trace.num_tokens:,} tokens."
    )
    cells = [part[chosen.statistic] for part in values.part_cells(run, chosen.layer, chosen.head, window)]
    content, position = values.part_rows(run, chosen.layer, chosen.head, token)
    table = tables.keys_of(trace, token, content=content, position=position, score=content + position)
    limit = maps.score_limit(*cells)
    how_to_read = (
        "Purple raises a score, green lowers it; both maps have the same scale. The position part depends on the "
        f"distance, and on the two tokens too. The table shows token {token}."
    )
    for side, name, part in zip(st.columns(2), ("content", "position"), cells, strict=True):
        figure = maps.score_map(
            part, session.theme(), limit, text.token_labels(trace), token=token, title=f"{name} part",
            of_cell=chosen.statistic,
        )  # fmt: skip
        with side:
            head_map.show(figure, f"attention-{name}", chosen, table, how_to_read)


def by_distance(run: Run, chosen: Selection) -> None:
    """Draw both parts of the scores of all heads by the distance between query and key."""
    parts = values.parts_by_distance(run, chosen.layer)
    table = parts.to_series().unstack(["part", "head"])  # noqa: PD010
    table.columns = [f"{part}, head {head}" for part, head in table.columns]
    means = mean_of_heads(parts)
    table = table.assign(**{f"{part}, mean": means.sel(part=part).values for part in parts["part"].values})
    how_to_read = (
        "The mean of each part over all pairs of tokens at the same distance; only few pairs have a large distance. "
        "A position part that falls with the distance makes a head look at near tokens, whatever the tokens are."
    )
    figure = figures.parts_by_distance(parts, session.theme(), chosen.head)
    table = table.reset_index(names="tokens back")
    controls.chart(figure, "attention-distance", table, how_to_read, layer=chosen.layer)


def cache(trace: Trace) -> None:
    """Draw the bytes of the model's KV cache, beside those of expanded keys and values, and of MHA, GQA and MQA."""
    try:
        here, far = (kv_cache.cache_bytes(trace.config, num_tokens) for num_tokens in (trace.num_tokens, FAR))
    except (KeyError, TypeError):  # another kind of attention, or sizes that differ by layer
        st.caption("The trace does not state the sizes of latent attention, so the size of its cache is unknown.")
        return
    figure = figures.cache_bars(
        far, {name: _in_units(size) for name, size in far.items()}, kv_cache.OWN, session.theme(),
        f"cache of {trace.model.get('name', 'the model')} at {FAR:,} tokens: derived, bfloat16",
    )  # fmt: skip
    how_to_read = (
        "The cache stores what attention needs of earlier tokens. Latent attention (MLA) keeps one latent vector and "
        "one position key per token and layer, for all heads together, and the key of an indexer; *MLA expanded* "
        "keeps every head's whole key and value instead. The other bars are other kinds of attention with the same "
        "layers and head sizes. They cache whole values, and keys without the position part: one of each for every "
        "head (MHA), for each of eight groups of heads (GQA-8; with up to eight heads this is MHA), or for all heads "
        "together (MQA)."
    )
    table = pd.DataFrame(
        {
            "attention": list(far),
            "bytes per token": [size // FAR for size in far.values()],
            f"bytes, this run ({trace.num_tokens:,} tokens)": list(here.values()),
            f"bytes, {FAR:,} tokens": list(far.values()),
            "MLA is smaller by": [size / far[kv_cache.OWN] for size in far.values()],
        }
    )
    sizes = ", ".join(f"{name} {_in_units(size)}" for name, size in here.items())
    st.caption(f"Cache of this run's {trace.num_tokens:,} tokens: {sizes}. Derived, bfloat16.")
    controls.chart(figure, "attention-cache", table, how_to_read)


def _in_units(size: int) -> str:
    """Return bytes in the largest unit with a value of at least 1, with three digits.

    >>> _in_units(0), _in_units(1023), _in_units(70272)
    ('0 bytes', '1.02e+03 bytes', '68.6 KiB')
    """
    power = min(len(UNITS) - 1, (max(1, size).bit_length() - 1) // 10)
    return f"{size / 1024**power:.3g} {UNITS[power]}"
