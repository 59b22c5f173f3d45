"""The facts of the run on show, bound to this session: what the expressions of a lesson are computed over."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st
import xarray as xr

from model.run.request import RequestError
from model.trace.facts.facts import facts_of
from model.trace.facts.sources import FactError, Sizes, Sources, Value
from pages.common import heads, results, session
from pages.common.runs import Run

_CACHE = "lesson-facts"


@dataclasses.dataclass
class _Bound:
    """The facts of a run with results of these keys; each value is computed once."""

    run: Run
    keys: dict[str, Hashable]
    facts: dict[str, Callable[..., Value]]


def of_session() -> dict[str, Callable[..., Value]] | None:
    """Return the facts of the run on show by name; None if nothing is on show."""
    run, made = session.shown(), results.of_session()
    if run is None or run.trace is None:
        return None
    keys = {name: key for name, (key, _) in made.items()}
    bound = st.session_state.get(_CACHE)
    if bound is None or bound.run is not run or bound.keys != keys:
        values = {name: value for name, (_, value) in made.items()}
        bound = st.session_state[_CACHE] = _Bound(run, keys, _bind(run, values))
    return bound.facts


def _bind(run: Run, made: dict[str, Any]) -> dict[str, Callable[..., Value]]:
    assert run.trace is not None
    (original, experiment), compared = made.get("experiment", (None, None)), made.get("comparison")
    sources = Sources(
        trace=run.trace,
        dense=functools.partial(_dense, run),
        sizes=_sizes,
        compared=compared.b if compared is not None and compared.a is run.trace else None,
        experiment=experiment if original is run.trace else None,
        collapse=made.get("collapse", {}),
    )
    return {name: functools.cache(fact) for name, fact in facts_of(sources).items()}


def _dense(run: Run, layer: int) -> xr.DataArray:
    try:
        return heads.dense(run, layer)
    except RequestError as error:
        raise FactError(str(error)) from None


def _sizes(model: str) -> Sizes:
    from model.checkpoint.named_sizes import sizes_of

    return sizes_of(model)
