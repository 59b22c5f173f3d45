"""The name under which a transformers model takes its cache, which transformers 5.24 changed."""

import functools
import inspect
from typing import Any

from torch import nn


def cache_argument(model: nn.Module, cache: Any) -> dict[str, Any]:
    """Return the keyword argument that gives a model its cache."""
    return {_name(type(model)): cache}


@functools.cache
def _name(model_class: type[nn.Module]) -> str:
    return "cache" if "cache" in inspect.signature(model_class.forward).parameters else "past_key_values"
