"""What facts read: the run on show, its model, and the results that a page made beside it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import xarray as xr

from model.trace import load
from model.trace.comparison import CompareError, Comparison, compare
from model.trace.decision import Decision
from model.trace.observed_rule import rule_of
from model.trace.router_rule import RouterRule
from model.trace.trace import Trace
from model.trace.training_log import Outcome

Value = bool | int | float | str | list[int]


class FactError(ValueError):
    """A fact is not known of this run; the message says why, or what to press."""


class Sizes(Protocol):
    """The size of a model: its parameters, those that one token passes through, and its published configuration."""

    @property
    def parameters(self) -> int: ...
    @property
    def active(self) -> int: ...
    @property
    def config(self) -> Mapping[str, Any]: ...


class Experiment(Protocol):
    """A finished counterfactual: the changed run, the effect to compare with the control, and those of its draws."""

    changed: Trace | None
    matched: xr.Dataset | None
    draws: xr.Dataset | None


@dataclasses.dataclass(frozen=True, eq=False)
class Sources:
    """What facts are computed from. A source that is None makes its facts raise `FactError`.

    Attributes:
        trace: the run on show.
        dense: function from a model layer number to the attention that reads every key, [head, query, key].
        sizes: function from the name of an embedded or released model to its size.
        compared: run B of the Compare page; the trace is run A.
        experiment: the last experiment on this run.
        collapse: how the runs of the Collapse page ended, by side, "A" or "B".
    """

    trace: Trace
    dense: Callable[[int], xr.DataArray] | None = None
    sizes: Callable[[str], Sizes] | None = None
    compared: Trace | None = None
    experiment: Experiment | None = None
    collapse: Mapping[str, Outcome] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def rule(self) -> RouterRule:
        """The router's rule."""
        self.variable("expert_id")
        return rule_of(self.trace)

    @functools.cached_property
    def load(self) -> load.Load:
        """The load of the experts over all tokens of the run."""
        self.variable("expert_id")
        return load.measure(self.trace)

    @functools.cached_property
    def comparison(self) -> Comparison:
        """The comparison of the run with `compared`.

        Raises:
            FactError: there is no second run, or the runs cannot be compared.
        """
        if self.compared is None:
            raise FactError("there is no second run yet; open the Compare page and choose run B")
        try:
            return compare(self.trace, self.compared)
        except CompareError as error:
            raise FactError(str(error)) from None

    @functools.cached_property
    def _decisions(self) -> dict[tuple[int, int], Decision]:
        return {}

    def decision(self, token: int, layer: int) -> Decision:
        """Return the decision of a layer for a token.

        Raises:
            FactError: the run lacks the token, the layer or its scores.
        """
        key = (self.token(token), layer)
        self.at("router_score", layer)
        if key not in self._decisions:
            try:
                self._decisions[key] = Decision.of(self.trace, *key)
            except (ValueError, KeyError) as error:
                raise FactError(f"the decision of layer {layer} is not known: {error}") from None
        return self._decisions[key]

    def variable(self, name: str) -> xr.DataArray:
        """Return a variable of the trace.

        Raises:
            FactError: the run did not record it.
        """
        if not self.trace.has(name):
            raise FactError(f"this run did not record {name.replace('_', ' ')}")
        return self.trace.data[name]

    def at(self, name: str, layer: int, dim: str = "moe_layer") -> np.ndarray:
        """Return a variable of the trace in one layer, given by its model layer number.

        Raises:
            FactError: the run did not record it, or has no such layer.
        """
        values = self.variable(name)
        if layer not in values[dim].values:
            kind = {"moe_layer": "with experts", "indexer_layer": "with an indexer"}.get(dim, "in this run")
            raise FactError(f"layer {layer} is no layer {kind}")
        return values.sel({dim: layer}).values

    def token(self, number: int) -> int:
        """Return the number of a token that the run has.

        Raises:
            FactError: the run has no such token.
        """
        if not (isinstance(number, int) and 0 <= number < self.trace.num_tokens):
            raise FactError(f"the run has no token {number}; its last one is {self.trace.num_tokens - 1}")
        return number

    def expert(self, number: int) -> int:
        """Return the number of an expert that a layer has.

        Raises:
            FactError: a layer has no such expert.
        """
        if not (isinstance(number, int) and 0 <= number < self.rule.num_experts):
            raise FactError(f"a layer has no expert {number}; the last one is {self.rule.num_experts - 1}")
        return number

    @functools.cached_property
    def texts(self) -> np.ndarray:
        """The numbers of the tokens that stand for text.

        Raises:
            FactError: the run has none.
        """
        found = np.flatnonzero(~self.trace.special_mask.values)
        if not found.size:
            raise FactError("the run has no token with text")
        return found

    def name(self, model: str | None) -> str:
        """Return the name of a model; without one, of the model that made the run."""
        return str(self.trace.model.get("name")) if model is None else model

    def config(self, model: str | None) -> Mapping[str, Any]:
        """Return the published configuration of a model; without a name, of the model that made the run.

        Raises:
            FactError: no model of this name is known here.
        """
        return self.trace.config if model is None else self.size(model).config

    def size(self, model: str | None) -> Sizes:
        """Return the size of a model; without a name, of the model that made the run.

        Raises:
            FactError: no model of this name is known here.
        """
        if self.sizes is None:
            raise FactError("the sizes of models are not known here")
        try:
            return self.sizes(self.name(model))
        except (ValueError, OSError, KeyError):
            raise FactError(f"no model named {self.name(model)!r:.80} is known here") from None
