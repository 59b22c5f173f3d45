"""Search a sweep for a word, a label or an expert."""

import dataclasses
import re

import pandas as pd

from model.atlas.folder import Sweep
from model.atlas.schema import LABELS

MOST = 200  # rows of a table of matches
_EXPERT = re.compile(r"(?:L(\d{1,6}))?\s*E(\d{1,6})", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Matches:
    """What a query matches.

    Attributes:
        experts: (layer, expert) pairs that the query names; a query without a layer names the expert of every layer.
        labels: (kind, label) pairs that contain the query.
        tokens: rows of `tokens` whose text contains the query, whole words first, then by selections, with `share`:
            the part of the token's occurrences that selected the expert.
        examples: rows of `examples` whose text contains the query, by gate weight.
    """

    experts: tuple[tuple[int, int], ...]
    labels: tuple[tuple[str, str], ...]
    tokens: pd.DataFrame
    examples: pd.DataFrame

    @property
    def empty(self) -> bool:
        """Whether nothing matches."""
        return not (self.experts or self.labels or len(self.tokens) or len(self.examples))


def search(sweep: Sweep, query: str) -> Matches:
    """Return what a query matches: an expert (`L3E17`, `E17`), labels, tokens and examples, in any case of letters."""
    wanted = " ".join(query.split()).casefold()
    nothing = Matches((), (), pd.DataFrame(), pd.DataFrame())
    if not wanted:
        return nothing
    named = _EXPERT.fullmatch(wanted)
    if named is not None:
        return dataclasses.replace(nothing, experts=_experts(sweep, *named.groups()))
    return Matches((), _labels(sweep, wanted), _tokens(sweep, wanted), _examples(sweep, wanted))


def _experts(sweep: Sweep, layer: str | None, expert: str) -> tuple[tuple[int, int], ...]:
    if int(expert) >= sweep.num_experts:
        return ()
    return tuple((number, int(expert)) for number in sweep.layers if layer is None or number == int(layer))


def _labels(sweep: Sweep, wanted: str) -> tuple[tuple[str, str], ...]:
    return tuple((kind, label) for kind in LABELS for label in sweep.label_names(kind) if wanted in label.casefold())


def _tokens(sweep: Sweep, wanted: str) -> pd.DataFrame:
    if sweep.tokens is None:
        return pd.DataFrame()
    texts = sweep.tokens["text"].str.casefold()
    rows = _with_share(sweep.tokens.loc[texts.str.contains(wanted, regex=False)])
    rows = rows.assign(whole=texts[rows.index].str.strip() == wanted)
    rows = rows.sort_values(["whole", "c"], ascending=False, kind="stable").head(MOST)
    return rows.drop(columns="whole").reset_index(drop=True)


def _examples(sweep: Sweep, wanted: str) -> pd.DataFrame:
    if sweep.examples is None:
        return pd.DataFrame()
    table = sweep.examples
    texts = (table["before"] + table["token"] + table["after"]).str.casefold()
    rows = table.loc[texts.str.contains(wanted, regex=False)]
    return rows.sort_values("weight", ascending=False, kind="stable").head(MOST).reset_index(drop=True)


def tokens_of(sweep: Sweep, layer: int, expert: int) -> pd.DataFrame | None:
    """Return the tokens that selected an expert most, with `share` as in `Matches`; None if the sweep has no tokens."""
    rows = _of(sweep.tokens, layer, expert)
    return None if rows is None else _with_share(rows).sort_values("c", ascending=False, kind="stable")


def examples_of(sweep: Sweep, layer: int, expert: int) -> pd.DataFrame | None:
    """Return texts with a token that selected an expert; None if the sweep has no examples."""
    return _of(sweep.examples, layer, expert)


def _with_share(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(share=rows["c"] / rows["total"])


def _of(table: pd.DataFrame | None, layer: int, expert: int) -> pd.DataFrame | None:
    return None if table is None else table.loc[(table["layer"] == layer) & (table["expert"] == expert)]
