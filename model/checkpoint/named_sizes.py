"""The size of an embedded or released model by its name, for facts about models (`model/trace/facts`)."""

import functools
import json

from model.checkpoint import costs
from model.checkpoint.embedded import RELEASED, embedded_models, find_model, released_config
from model.checkpoint.parts import read_parts
from model.network.config import ModelConfig
from model.trace.facts.sources import Sizes


@functools.cache
def sizes_of(name: str) -> Sizes:
    """Return the size of a model, from its configuration alone.

    Raises:
        KeyError: no embedded or released model has this name.
    """
    if name not in (*embedded_models(), *RELEASED):
        raise KeyError(name)
    path = released_config(name) if name in RELEASED else find_model(name) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    cost = costs.model_cost(read_parts(ModelConfig.from_json(config)), 0, "bfloat16")
    return Sizes(cost.parameters, cost.active, config)
