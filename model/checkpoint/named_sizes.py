"""The size of an embedded or released model by its name, for facts about models (`model/trace/facts`)."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from model.checkpoint import costs
from model.checkpoint.costs import Cost
from model.checkpoint.embedded import RELEASED, embedded_models, find_model, released_config
from model.checkpoint.parts import read_parts
from model.network.config import ModelConfig


class NamedSizes:
    """The size of a model, as `model.trace.facts.sources.Sizes`; V3's parameters are counted in a second, once."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    @functools.cached_property
    def _cost(self) -> Cost:
        return costs.model_cost(read_parts(ModelConfig.from_json(self.config)), 0, "bfloat16")

    @property
    def parameters(self) -> int:
        """Parameters without multi-token prediction."""
        return self._cost.parameters

    @property
    def active(self) -> int:
        """Parameters that one token passes through."""
        return self._cost.active


@functools.cache
def sizes_of(name: str) -> NamedSizes:
    """Return the size of a model, from its configuration alone.

    Raises:
        KeyError: no embedded or released model has this name.
    """
    if name not in (*embedded_models(), *RELEASED):
        raise KeyError(name)
    path = released_config(name) if name in RELEASED else find_model(name) / "config.json"
    return NamedSizes(json.loads(path.read_text(encoding="utf-8")))
