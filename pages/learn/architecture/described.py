"""The models whose architecture can be shown: the one in use, and the released ones, known by their configurations.

The released configurations are published values, written down in `model/presets/configs`; they cannot be run.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.checkpoint.embedded import RELEASED, released_config
from model.trace.trace import Trace
from pages.common import controls, models

if TYPE_CHECKING:
    from model.checkpoint.parts import Parts

IN_USE = "in use"


@dataclasses.dataclass(frozen=True)
class Described:
    """A model by its parts.

    Attributes:
        name: as it is called on screen.
        parts: `model.checkpoint.parts.Parts`.
        folder: where it can be run from; None for one of which only the configuration is known.
    """

    name: str
    parts: "Parts"
    folder: Path | None = None


def choose() -> str:
    """Choose a model: the one in use or a released one."""
    options = [*([IN_USE] if models.available() else []), *RELEASED]
    controls.keep_within("of", options)
    chosen = st.segmented_control(
        "Model", options, default=options[0], required=True, key="of", bind="query-params", format_func=_label
    )
    return chosen or options[0]


def _label(option: str) -> str:
    return RELEASED.get(option) or f"{models.chosen()} (in use)"


def describe(option: str) -> Described:
    """A model by what `choose` returned.

    Raises:
        ValueError: its configuration cannot be read; the message says why.
    """
    if option in RELEASED:
        return _released(option)
    return _of_folder(models.available()[models.chosen()])


@st.cache_resource(show_spinner=False)
def _released(name: str) -> Described:
    from model.checkpoint.parts import read_parts
    from model.network.config import ModelConfig

    published = json.loads(released_config(name).read_text(encoding="utf-8"))
    return Described(RELEASED[name], read_parts(ModelConfig.from_json(published)))


@st.cache_resource(show_spinner="Reading the model's headers", max_entries=8)
def _of_folder(folder: Path) -> Described:
    from model.checkpoint.parts import read_parts
    from model.checkpoint.weights import inspect

    return Described(folder.name, read_parts(inspect(folder).config), folder)


def is_of(trace: Trace | None, described: Described) -> bool:
    """Whether a trace was made with this model, as far as it says: by its configuration, and the name of a folder."""
    from model.network.config import ModelConfig

    if trace is None or (described.folder is not None and trace.model.get("name") != described.folder.name):
        return False
    try:
        config = ModelConfig.from_json(trace.config)
    except (ValueError, TypeError):
        return False
    return config == described.parts.config
