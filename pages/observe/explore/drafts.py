"""What Explore says of drafts: each beside its token, how many were right, and where the model sent the wrong ones."""

import numpy as np
import pandas as pd
import streamlit as st

from model.trace import drafts
from model.trace.drafts import Acceptance
from model.trace.trace import Trace
from pages.common import controls, session, text
from viz import drafts as pictures

SHOWN = 1_000  # chips at a time


def show(trace: Trace, token: int | None) -> None:
    """The tab."""
    if not trace.has("draft_id"):
        st.info(
            "This trace holds no drafts. They need a model with a multi-token-prediction module, such as mini-v3, "
            "in memory."
        )
        return
    _figures(trace)
    table = by_token(trace)
    _text(trace, table, token)
    if trace.has("draft_expert_id"):
        _routing(trace)
    with st.expander("Every draft", icon=":material/table:"):
        st.dataframe(table, hide_index=True, height=300)
        controls.download_table(table, "drafts")


def _figures(trace: Trace) -> None:
    tried, columns = drafts.acceptance(trace), st.columns(4)
    saved, new = drafts.passes_saved(trace)
    columns[0].metric("Accepted", _share(tried), help=_said(tried, "drafts that were tried"))
    prompt = drafts.agreement(trace, trace.prompt_mask)
    columns[1].metric("Right in the prompt", _share(prompt), help=_said(prompt, "drafts for tokens of the prompt"))
    generated = drafts.agreement(trace, ~trace.prompt_mask)
    columns[2].metric("Right in new text", _share(generated), help=_said(generated, "drafts for new tokens"))
    columns[3].metric("Passes saved", f"{saved} of {new}", help="Tokens that needed no forward pass of their own.")
    st.caption(
        "The module reads the model's state and the next token, and drafts the token after that. A draft that is "
        "*tried* is fed before its token is chosen; when the token turns out to be the draft, its pass is done. The "
        "text is that of plain decoding, and drafts taken back count in no statistic. Measured; the shares are derived."
    )


def _share(found: Acceptance) -> str:
    return f"{found.share:.0%}" if found.total else "none"


def _said(found: Acceptance, what: str) -> str:
    if not found.total:
        return f"There are no {what}."
    low, high = found.interval
    return (
        f"{found.right} of {found.total} {what}; 95 % interval {low:.0%} to {high:.0%}, as if tokens were independent."
    )


def by_token(trace: Trace) -> pd.DataFrame:
    """A row per token."""
    vocabulary, data = session.vocabulary(trace), trace.data
    ids = data["draft_id"].values
    table = pd.DataFrame(
        {
            "token": range(trace.num_tokens),
            "text": controls.token_names(trace),
            "draft": [text.entry(int(i), vocabulary) if i >= 0 else None for i in ids],
            "right": drafts.right(trace).values,
            "tried": data["draft_tried"].values,
            "draft's probability": np.exp(data["draft_logprob"].values),
            "part": ["generated" if entry.generated else "prompt" for entry in trace.tokens],
        }
    )
    if trace.has("draft_expert_id"):
        table["experts in common"] = drafts.shared_experts(trace).mean("moe_layer").values
    return table


def _text(trace: Trace, table: pd.DataFrame, token: int | None) -> None:
    first = (token or 0) // SHOWN * SHOWN
    part = table.iloc[first : first + SHOWN]
    figure = pictures.text_with_drafts(
        part["text"].tolist(), [draft if isinstance(draft, str) else None for draft in part["draft"]],
        part["right"].tolist(), part["tried"].tolist(), (part["part"] == "generated").tolist(),
        trace.special_mask.values[first : first + SHOWN].tolist(), token, first,
    )  # fmt: skip
    st.html(f"<style>{pictures.CSS}</style>{figure}{pictures.LEGEND}")
    if trace.num_tokens > SHOWN:
        st.caption(f"Tokens {first:,} to {first + len(part) - 1:,}, those around the chosen one.")


def _routing(trace: Trace) -> None:
    """Whether the model sent wrong drafts where it sent the tokens that came."""
    shared, by_chance = drafts.shared_by_layer(trace), drafts.shared_by_chance(trace)
    number = int((trace.data["draft_tried"] & ~drafts.right(trace)).sum())
    if not number:
        st.caption("Routing: a right draft is the token itself, and no wrong one was tried.")
        return
    layers = shared["moe_layer"].values.tolist()
    figure = pictures.shared_by_layer(layers, shared.values, by_chance.values, session.theme())
    numbers = pd.DataFrame({"layer": layers, "wrong draft and token": shared, "two tokens of the text": by_chance})
    said = (
        f"A wrong draft had already been sent to experts. The bars say how many of them the token that came took too "
        f"(n = {number} wrong drafts); the marks, how many two new tokens of this text have in common by chance. A "
        "right draft is the token itself and shares all. Derived."
    )
    controls.chart(figure, "draft-experts", numbers, said)
