"""The Drafts tab: each draft below its token, the acceptance rate, and the experts of rejected drafts."""

import pandas as pd
import streamlit as st

from model.run.request import FIELDS
from model.trace import drafts, metrics
from model.trace.drafts import Acceptance
from model.trace.trace import Trace
from pages.common import controls, session, tables, text
from viz import drafts as figures

MAX_CHIPS = 1_000  # tokens of the strip at a time
_MODULE = "The prediction module reads the model's state and the next token, and drafts the token after that."


def show(trace: Trace, token: int) -> None:
    """Draw the tab of draft tokens."""
    if not trace.has("draft_id"):
        st.info(
            "This trace holds no drafts. A model with a multi-token-prediction module, such as mini-v3, makes drafts "
            "when it runs in memory."
        )
        return
    _rates(trace)
    table = by_token(trace)
    _strip(trace, table, token)
    if trace.has("draft_expert_id"):
        _routing(trace)
    with st.expander("Every draft", icon=":material/table:"):
        st.dataframe(table, hide_index=True, height=300, placeholder="", column_config=tables.three_digits(table))
        controls.download_table(table, "drafts")


def _rates(trace: Trace) -> None:
    verified, columns = drafts.acceptance(trace), st.columns(4)
    prompt = drafts.agreement(trace, trace.prompt_mask)
    columns[0].metric("Matching in the prompt", _share(prompt), help=_counts(prompt, "drafts for tokens of the prompt"))
    generated = drafts.agreement(trace, ~trace.prompt_mask)
    columns[1].metric("Matching in new text", _share(generated), help=_counts(generated, "drafts for new tokens"))
    if not verified.total:
        st.caption(
            f"{_MODULE} This run verified no draft. With *{FIELDS['verify_drafts'].label}*, under *More*, the next run "
            "also shows how many drafts are accepted and which experts they reach. Measured; the shares are derived."
        )
        return
    saved, new = drafts.passes_saved(trace)
    columns[2].metric("Accepted", _share(verified), help=_counts(verified, "verified drafts"))
    columns[3].metric("Passes saved", f"{saved} of {new}", help="New tokens that needed no forward pass of their own.")
    st.caption(
        f"{_MODULE} To *verify* a draft, the model takes the draft as its next input before it has chosen the token in "
        "that place. If it then chooses the same token, the draft is accepted and its forward pass is already done; "
        "otherwise the draft is rejected and left out of all other statistics. The text is the same as without drafts. "
        "Measured; the shares are derived."
    )


def _share(rate: Acceptance) -> str:
    return f"{rate.share:.0%}" if rate.total else "none"


def _counts(rate: Acceptance, drafted: str) -> str:
    if not rate.total:
        return f"There are no {drafted}."
    low, high = rate.interval
    counts = f"{rate.matching} of {rate.total} {drafted}"
    return f"{counts}; 95 % interval {low:.0%} to {high:.0%}, as if tokens were independent."


def by_token(trace: Trace) -> pd.DataFrame:
    """Return a table with a row per token and its draft."""
    vocabulary, data = session.vocabulary(trace), trace.data
    ids = data["draft_id"].values
    table = pd.DataFrame(
        {
            "token": range(trace.num_tokens),
            "text": controls.token_names(trace),
            "draft": [text.entry(int(i), vocabulary) if i >= 0 else None for i in ids],
            "matches": drafts.matches(trace).values,
            "verified": data["draft_tried"].values,
            "draft's probability": metrics.probability(data["draft_logprob"]).values,
            "part": ["generated" if entry.generated else "prompt" for entry in trace.tokens],
        }
    )
    if trace.has("draft_expert_id"):
        table["experts in common"] = drafts.shared_by_token(trace).values
    return table


def _strip(trace: Trace, table: pd.DataFrame, token: int) -> None:
    first = token // MAX_CHIPS * MAX_CHIPS
    part = table.iloc[first : first + MAX_CHIPS]
    figure = figures.text_with_drafts(
        part["text"].tolist(), [draft if isinstance(draft, str) else None for draft in part["draft"]],
        part["matches"].tolist(), part["verified"].tolist(), (part["part"] == "generated").tolist(),
        trace.special_mask.values[first : first + MAX_CHIPS].tolist(), token, first,
    )  # fmt: skip
    st.html(f"<style>{figures.CSS}</style>{figure}{figures.LEGEND}")
    if trace.num_tokens > MAX_CHIPS:
        st.caption(f"Tokens {first:,} to {first + len(part) - 1:,}, those around the chosen one.")


def _routing(trace: Trace) -> None:
    """Draw by layer the share of a rejected draft's experts that the token sampled in its place selected too."""
    shared, by_chance = drafts.shared_by_layer(trace), drafts.shared_by_chance(trace)
    number = drafts.num_rejected(trace)
    if not number:
        st.caption("No draft was rejected, so there is no routing to compare.")
        return
    layers = shared["moe_layer"].values.tolist()
    figure = figures.shared_by_layer(layers, shared.values, by_chance.values, session.theme())
    columns = {"layer": layers, "rejected draft and token": shared, "two tokens of the text": by_chance}
    how_to_read = (
        "The model routes a draft to experts before it rejects it. A bar is the share of the draft's experts that "
        f"the actual token chose too (n = {number} rejected drafts). A mark is the share of experts that two random "
        "new tokens of this text have in common. Accepted drafts are left out: they equal the token. Derived."
    )
    controls.chart(figure, "draft-experts", pd.DataFrame(columns), how_to_read)
