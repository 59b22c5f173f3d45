"""The widgets of the Atlas page: the sweep, the kind of label, and what the map shows."""

import contextlib
from collections.abc import Iterator

import streamlit as st

from model.atlas import library
from model.atlas.errors import AtlasError
from model.atlas.folder import Sweep
from model.atlas.schema import LABELS
from pages.common import controls, guards, text

ANY = "any"
LAYERS, BY_LABEL = "layers", "labels"
UNLABELLED = "The documents of this sweep have no labels, so it does not say what each expert is for."
_SWEEP_HELP = "A sweep is the routing of a whole corpus, summed by document. `python -m model sweep` makes one."
_LABEL_HELP = (
    "What the corpus says about each document. A label of two documents tells little; the map leaves it blank."
)


def sweep() -> Sweep:
    """Draw the list of sweeps and return the chosen one; end the page with the reason if there is none."""
    names = list(library.available())
    if not names:
        guards.stop_with(
            f"No sweep is installed. `python -m model sweep` makes one; name its folder in {library.VARIABLE} and "
            "start again."
        )
    return _opened(names, "sweep", "Sweep")


def other_sweep(sweep: Sweep) -> Sweep | None:
    """Draw the list of the other sweeps and return the chosen one; None if there is no other."""
    names = [name for name, folder in library.available().items() if folder != sweep.folder]
    return _opened(names, "with", "Compare with") if names else None


def _opened(names: list[str], key: str, label: str) -> Sweep:
    controls.keep_within(key, names)
    name = st.selectbox(label, names, key=key, bind="query-params", width=260, help=_SWEEP_HELP)
    try:
        return library.opened(name)
    except AtlasError as error:
        guards.stop_with(text.sentence(error))


@contextlib.contextmanager
def damage_shown(sweep: Sweep) -> Iterator[None]:
    """Show one line of error in place of the `with` block's output if a table of the sweep cannot be read."""
    try:
        yield
    except AtlasError as error:
        st.error(text.sentence(str(error).replace(str(sweep.folder), sweep.folder.name)))


def kinds(sweep: Sweep) -> list[str]:
    """Return the kinds of label of which the sweep's documents have at least two."""
    return [kind for kind in LABELS if len(sweep.label_names(kind)) > 1]


def kind(sweep: Sweep) -> str | None:
    """Draw the choice of a kind of label and return it; None if the documents have no labels to compare."""
    options = kinds(sweep)
    if not options:
        return None
    controls.keep_within("by", options)
    return st.segmented_control(
        "Labels", options, default=options[0], required=True, key="by", bind="query-params", help=_LABEL_HELP
    )


def label(sweep: Sweep, kind: str) -> str:
    """Draw the list of labels and return the chosen one; `ANY` stands for the label that an expert takes most."""
    options = [ANY, *sweep.label_names(kind)]
    controls.keep_within("label", options)
    chosen = st.selectbox(
        "Label", options, key="label", bind="query-params", width=220,
        help="The map shows the lift of this label. Any: of the label with the largest lift that survives.",
    )  # fmt: skip
    return chosen or ANY


def rows() -> str:
    """Draw the choice of the map's rows and return it: the layers, for a label; or the labels, for a layer."""
    return st.segmented_control(
        "Rows of the map", (LAYERS, BY_LABEL), default=LAYERS, required=True, key="rows", bind="query-params",
        help="Layers: all experts of the model for one label. Labels: one layer's experts for all labels.",
    )  # fmt: skip
