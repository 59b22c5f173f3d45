"""The tabs of the Atlas page."""

from collections.abc import Callable

from model.atlas.folder import Sweep
from pages.observe.atlas import card, checks, finding, layers, moves, sharp, together

# Each tab takes the sweep, the kind of label (None: the documents have none), the layer and the expert.
TABS: dict[str, Callable[[Sweep, str | None, int, int], None]] = {
    "One expert": card.show,
    "Layers": layers.show,
    "Experts together": together.show,
    "How sharp": sharp.show,
    "Two sweeps": moves.show,
    "How sure": checks.show,
    "Search": finding.show,
}
