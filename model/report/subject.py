"""The run that a report is about: its trace and choice, the names of tokens, and reasons for missing figures."""

import dataclasses
import functools

import numpy as np

from model.report.choice import Choice
from model.trace import load as loads
from model.trace.imports import origin
from model.trace.load import Load
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Token, Trace
from viz import tokens
from viz.report.figure import MOST_EXPERTS
from viz.report.markup import element, text

MOST_TOKENS = 1_000  # in the strip, the map and the table
MOST_LAYERS = 128  # rows of a figure
_MARGIN = 16  # tokens beyond those in the strip, so that characters at its ends are whole
MOST_NAME = 40  # characters of a token in a sentence


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """The run that a report is about."""

    trace: Trace
    choice: Choice

    @functools.cached_property
    def rule(self) -> RouterRule:
        """The router's rule, or the layout of its experts if no rule is known."""
        return rule_of(self.trace)

    @functools.cached_property
    def load(self) -> Load:
        """The load of the experts over all tokens; only if `no_routing` is None."""
        return loads.measure(self.trace)

    @functools.cached_property
    def no_routing(self) -> str | None:
        """A sentence on why the report has no figures of experts; None if it has."""
        if self.choice.layer is None:
            return f"This trace does not hold the chosen experts.{self.reason('expert')}"
        highest = int(self.trace.data["expert_id"].values.max(initial=-1))
        if highest < 0:
            return "The trace holds no token's experts."
        if highest >= self.rule.num_experts:
            return "The trace does not state how many experts the model has, so their load cannot be drawn."
        if self.rule.num_experts > MOST_EXPERTS:
            return f"A layer has {self.rule.num_experts:,} experts; the report draws up to {MOST_EXPERTS:,}."
        return None

    def reason(self, *kinds: str) -> str:
        """Return, as the end of a sentence, what an imported trace says of kinds of data that it lacks; or nothing."""
        found = [why for what, why in origin.missing(self.trace).items() if any(kind in what for kind in kinds)]
        return f" The reason: {found[0][:200]}." if found else ""

    @property
    def shown(self) -> range:
        """The tokens in the strip, the map and the table: all, or those around the chosen token."""
        first = self.choice.token // MOST_TOKENS * MOST_TOKENS
        return range(first, min(first + MOST_TOKENS, self.trace.num_tokens))

    def layers_shown(self, layers: list[int]) -> slice:
        """Return the part of a list of layers that a figure shows: all, or those around the chosen layer."""
        if self.choice.layer not in layers:
            return slice(0, MOST_LAYERS)
        first = layers.index(self.choice.layer) // MOST_LAYERS * MOST_LAYERS
        return slice(first, first + MOST_LAYERS)

    @functools.cached_property
    def nearby(self) -> tuple[int, list[Token], bytes]:
        """The number of the first token, the tokens and the text of `shown`, with a few tokens more at both ends.

        The spans of the tokens are those in this text. A character that several tokens spell is whole in it.
        """
        first = max(0, self.shown.start - _MARGIN)
        part = self.trace.tokens[first : self.shown.stop + _MARGIN]
        start, end = part[0].start, part[-1].end
        moved = [dataclasses.replace(token, start=token.start - start, end=token.end - start) for token in part]
        return first, moved, self.trace.text[start:end]

    def labels(self) -> list[str] | None:
        """Return the visible text of each token of `shown`; None without text."""
        if not self.choice.with_text:
            return None
        first, nearby, spelled = self.nearby
        return tokens.token_labels(nearby, spelled)[self.shown.start - first :][: len(self.shown)]

    def token(self, index: int) -> str:
        """Return the token's number and its name, as HTML; without text, its number."""
        number = f"token {index}"
        if not self.choice.with_text:
            return number
        name = tokens.name(self.trace.tokens[index], self.trace.text)
        return f"{number} {element('code', element('bdi', text(name, MOST_NAME)))}"

    @property
    def layer_name(self) -> str:
        """The layer of the routing figures, such as `L3`."""
        return f"L{self.choice.layer}"

    @functools.cached_property
    def known(self) -> np.ndarray:
        """Mask of the tokens whose experts are known in the chosen layer, [token]."""
        ids = self.trace.data["expert_id"].sel(moe_layer=self.choice.layer).values
        return np.any(ids >= 0, axis=-1)
