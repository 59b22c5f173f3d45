"""The tabs of the Atlas page."""

from collections.abc import Callable

from model.atlas.folder import Sweep
from pages.observe.atlas import finding


def search(sweep: Sweep, layer: int, expert: int) -> None:
    """Search for a word, a label or an expert."""
    finding.show(sweep)


TABS: dict[str, Callable[[Sweep, int, int], None]] = {"Search": search}
