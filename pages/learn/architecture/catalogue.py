"""The models whose architecture can be shown: the chosen model, and released models.

Released models have only their published configurations, in `model/presets/configs`; they cannot be run here. The parts
of a DeepSeek-V4 model, released or in a folder, come from its configuration too: our network does not run V4.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from model.checkpoint.embedded import RELEASED, RELEASED_V4, name_of, released_config
from model.trace.trace import Trace
from pages.common import models

if TYPE_CHECKING:
    from model.checkpoint.parts import Parts
    from model.checkpoint.parts_v4 import V4Config
    from model.network.config import ModelConfig

IN_USE = "in use"
TITLES = RELEASED | RELEASED_V4  # name -> title of every released model that can be shown


@dataclasses.dataclass(frozen=True)
class ShownModel:
    """A model that the page shows.

    Attributes:
        name: name of the model on the page.
        parts: parts of the model, with sizes and costs.
        folder: folder of its checkpoint; None if only the configuration is known.
    """

    name: str
    parts: "Parts"
    folder: Path | None = None


def load(option: str) -> ShownModel:
    """Return a released model by its key, or the chosen model for any other `option`.

    Raises:
        ValueError: the configuration cannot be read.
    """
    if option in TITLES:
        return _released(option)
    return _of_folder(models.available()[models.chosen()])


@st.cache_resource(show_spinner=False)
def _released(name: str) -> ShownModel:
    return ShownModel(TITLES[name], _parts(json.loads(released_config(name).read_text(encoding="utf-8"))))


@st.cache_resource(show_spinner="Reading the model's headers", max_entries=8)
def _of_folder(folder: Path) -> ShownModel:
    from model.checkpoint.files import CONFIG_NAME, find_file
    from model.checkpoint.header import read_json
    from model.checkpoint.parts import read_parts
    from model.checkpoint.weights import inspect

    with models.path_hidden(folder):
        published = read_json(find_file(folder, CONFIG_NAME))
        parts = _parts(published) if is_v4(published) else read_parts(inspect(folder).config)
        return ShownModel(name_of(folder), parts, folder)


def _parts(published: Mapping[str, Any]) -> "Parts":
    from model.checkpoint.parts import read_parts
    from model.checkpoint.parts_v4 import V4Config, v4_parts

    config = _config(published)
    return v4_parts(config) if isinstance(config, V4Config) else read_parts(config)


def _config(published: Mapping[str, Any]) -> "V4Config | ModelConfig":
    from model.checkpoint.parts_v4 import V4Config
    from model.network.config import ModelConfig

    return V4Config.from_json(published) if is_v4(published) else ModelConfig.from_json(published)


def is_v4(published: Mapping[str, Any]) -> bool:
    """Return whether a published configuration is one of DeepSeek-V4."""
    return published.get("model_type") == "deepseek_v4"


def made(model: ShownModel, trace: Trace | None) -> bool:
    """Return whether a model made a trace: equal configurations, and, if the model has a folder, also equal names."""
    if trace is None or (model.folder is not None and trace.model.get("name") != name_of(model.folder)):
        return False
    try:
        config = _config(trace.config)
    except (ValueError, TypeError):
        return False
    return config == model.parts.config
