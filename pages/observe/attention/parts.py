"""What latent attention adds to the picture: the two parts of a head's score, and the small cache."""

import numpy as np
import pandas as pd
import streamlit as st

from model.trace import kv_cache
from model.trace.trace import Trace
from pages.common import controls, heads, session
from pages.common.head_tables import labels, row_table
from pages.common.runs import Run
from pages.observe.attention import head_map, values
from pages.observe.attention.head_map import Shown
from viz import attention as maps
from viz import heads as numbers

FAR = 131_072  # tokens of a long context, as the released models have it
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def parts(run: Run, shown: Shown) -> None:
    """A head's score before the softmax, as its two terms: the maps, and both against the distance."""
    trace, token, window = heads.trace_of(run), shown.token, shown.window
    st.caption(
        f"Derived from layer {shown.layer}'s recorded input with the model's weights; n = {trace.num_tokens:,} tokens. "
        "The two parts add up to the score, and the softmax of the scores is the attention."
    )
    seen = [part[shown.of_cell] for part in values.part_cells(run, shown.layer, shown.head, window)]
    content, position = values.part_rows(run, shown.layer, shown.head, token)
    table = row_table(trace, token, content=content, position=position, score=content + position)
    limit = maps.score_limit(*seen)
    said = "Purple raises a score, green lowers it, both parts on one scale. The position part carries the distance, "
    said += f"and depends on the words too. The numbers are those of token {token}."
    for side, name, part in zip(st.columns(2), ("content", "position"), seen, strict=True):
        figure = maps.score_map(
            part, session.theme(), limit, labels(trace), token=token, title=f"{name} part", of_cell=shown.of_cell
        )
        with side:
            head_map.show(figure, f"attention-{name}", window, table, said)
    by_distance(run, shown)


def by_distance(run: Run, shown: Shown) -> None:
    """Both parts of the score against how far back the key lies, of all heads."""
    found = values.parts_by_distance(run, shown.layer)
    table = found.to_series().unstack(["part", "head"])  # noqa: PD010
    table.columns = [f"{part}, head {head}" for part, head in table.columns]
    table = table.assign(**{f"{part}, mean": found.sel(part=part).mean("head").values for part in found["part"].values})
    said = "The mean of each part over all pairs that lie equally far apart, all tokens of the text; far apart there "
    said += "are few. A position part that falls with the distance makes a head look near, whatever the words."
    figure = numbers.parts_by_distance(found, session.theme(), shown.head)
    controls.chart(figure, "attention-distance", table.reset_index(names="tokens back"), said)


def cache(trace: Trace) -> None:
    """Bytes that are kept of earlier tokens, against other ways of attention with heads of the same size."""
    try:
        here, far = (kv_cache.cache_bytes(trace.config, num_tokens) for num_tokens in (trace.num_tokens, FAR))
    except KeyError:
        st.caption("The trace does not say how large the model's heads are, so that its cache cannot be worked out.")
        return
    figure = numbers.cache_bars(
        far, {name: _written(size) for name, size in far.items()}, kv_cache.OWN, session.theme(),
        f"cache of {trace.model.get('name', 'the model')} at {FAR:,} tokens: derived, bfloat16",
    )  # fmt: skip
    said = "Latent attention (MLA) keeps one latent and one position key per token and layer, for all heads together. "
    said += "Expanded, it would keep every head's whole key and value. The others, with as many layers and heads of "
    said += "the same size, would keep a key without a position part and a value of every head (MHA), of eight groups "
    said += "of heads (GQA-8; with up to eight heads it is MHA), or one for all (MQA)."
    table = pd.DataFrame(
        {
            "attention": list(far),
            "bytes per token": [size // FAR for size in far.values()],
            f"bytes, this run ({trace.num_tokens:,} tokens)": list(here.values()),
            f"bytes, {FAR:,} tokens": list(far.values()),
            "MLA is smaller by": [size / far[kv_cache.OWN] for size in far.values()],
        }
    )
    st.caption(
        f"This run's {trace.num_tokens:,} tokens: "
        + ", ".join(f"{name} {_written(size)}" for name, size in here.items())
        + ". Derived, bfloat16."
    )
    controls.chart(figure, "attention-cache", table, said)


def _written(size: int) -> str:
    """Bytes in the largest unit of which there is one, three digits."""
    place = min(len(UNITS) - 1, int(np.log2(max(1, size)) // 10))
    return f"{size / 1024**place:.3g} {UNITS[place]}"
