"""The facts that expressions of a lesson can use, by name."""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType

from model.trace.facts import attention, experiments, loads, models, routing, sparse, text
from model.trace.facts.sources import Sources, Value

_SUBJECTS = (text, routing, loads, attention, sparse, models, experiments)


def _facts_in(subject: ModuleType) -> dict[str, Callable[..., Value]]:
    """Return the public functions that a module defines and whose first argument is `sources`."""
    return {
        name: function
        for name, function in inspect.getmembers(subject, inspect.isfunction)
        if function.__module__ == subject.__name__ and not name.startswith("_")
    }


# Name -> function; its first argument is `Sources`, the others are those of the expression.
FACTS: dict[str, Callable[..., Value]] = {
    name: function for subject in _SUBJECTS for name, function in _facts_in(subject).items()
}


def facts_of(sources: Sources) -> dict[str, Callable[..., Value]]:
    """Return the facts of a run by name, as functions of an expression's arguments.

    A fact raises `FactError` if the run, or what a page made beside it, does not hold what the fact needs.
    """
    return {name: functools.partial(function, sources) for name, function in FACTS.items()}
