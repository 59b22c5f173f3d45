"""A figure for many sessions, which is turned into a dictionary once."""

from typing import Any

import plotly.graph_objects as go


class Finished(go.Figure):
    """A finished figure. Plotly makes the dictionary of a figure anew for everyone who shows it, which takes 10 ms."""

    def __init__(self, figure: go.Figure) -> None:
        """Make the dictionary of `figure`; later changes of `figure` have no effect."""
        super().__init__()
        self._finished = figure.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary, which nobody may change."""
        return self._finished

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self._finished["layout"]["height"])
