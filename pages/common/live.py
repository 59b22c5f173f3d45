"""Mount the lens, and feed it during a run.

The component takes its data once per script run, so the tokens of a run in progress travel as hidden elements, each
appended after the last. One element that is replaced each time could lose tokens: the server sends only the latest
content of a placeholder. At the end the page calls `st.rerun()`, and the lens gets the whole run as a snapshot.
"""

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import streamlit as st
import streamlit.components.v2 as components

from model.run.protocol import EngineProtocol
from model.run.request import RunRequest
from model.run.step import Step
from model.trace.observed_rule import rule_of
from model.trace.trace import Trace
from viz import lens as source
from viz import theme
from viz.layout import Layout
from viz.lens import wire

TICKS_PER_SECOND = 10  # the lens shows the tokens of a tick one by one until the next arrives
_COMPONENT = components.component("moe_loupe_lens", html=source.HTML, css=source.CSS, js=source.JS)
_Result = TypeVar("_Result")


def lens(
    snapshot: bytes,
    *,
    key: str,
    palette: Mapping[str, Any],
    view: Mapping[str, Any],
    band: tuple[float, float] | None = None,
    on_view_change: Callable[[], None] = lambda: None,
) -> None:
    """Mount the lens; call it exactly once per script run.

    Args:
        snapshot: the run to show, from `snapshot_of`, or from `announce` when one is about to start.
        key: widget key; `st.session_state[key]["view"]` holds the visitor's last choices.
        palette: from `palettes`, colours for both themes.
        view: layer, head, token, expert (numbers or None), colour (expert, group, surprisal, none), map (experts,
            layers); a choice that is left out stays as it is in the browser.
        band: bounds of chance on the load ratio of an expert of the finished run; None: unknown.
        on_view_change: called before the rerun that a choice of the visitor causes; never during a run.
    """
    data = wire.with_settings(snapshot, palette=dict(palette), view=dict(view), band=band)
    _COMPONENT(key=key, data=data, default={"view": dict(view)}, on_view_change=on_view_change, height="content")


def palettes(layout: Layout) -> dict[str, Any]:
    """Return the lens's colours for both themes; the lens follows the browser's theme by itself."""
    return {name: theme.palette(layout, chosen) for name, chosen in theme.THEMES.items()}


def snapshot_of(trace: Trace, run: int) -> bytes:
    """Return a finished run as the lens reads it; `run` must differ between the traces that a session shows."""
    arrays = {str(name): values.values for name, values in trace.data.data_vars.items()}
    return wire.snapshot(header_of(trace, run), trace.tokens, trace.text, arrays)


def announce(engine: EngineProtocol, request: RunRequest, run: int) -> bytes:
    """Return the start of a run; the lens keeps its content until the first tokens arrive."""
    return wire.snapshot(header_for(engine, request, run))


def header_for(engine: EngineProtocol, request: RunRequest, run: int) -> wire.Header:
    """Return the axes of a run of the engine."""
    config, capture = engine.config, request.capture
    attentive = "attention" in capture.variables
    layers = range(config.num_layers) if capture.layers is None else sorted(capture.layers)
    heads = range(config.num_heads) if capture.heads is None else sorted(capture.heads)
    return wire.Header(
        run=run,
        moe_layers=tuple(config.moe_layers),
        layout=config,
        attention_layers=tuple(layers) if attentive else (),
        heads=tuple(heads) if attentive else (),
        running=True,
    )


def header_of(trace: Trace, run: int) -> wire.Header:
    """Return the axes of a trace."""
    data = trace.data
    return wire.Header(
        run=run,
        moe_layers=_labels(data, "moe_layer") if trace.has("expert_id") else (),
        layout=rule_of(trace),
        attention_layers=_labels(data, "attention_layer") if trace.has("attention") else (),
        heads=_labels(data, "head") if trace.has("attention") else (),
        running=False,
    )


class Feed:
    """Send a run in progress to the lens, one hidden element after the other."""

    def __init__(self, header: wire.Header) -> None:
        self._header, self._placeholder = header, st.container(key="ticks")
        self._waiting: list[bytes] = []
        self._position, self._due = 0, 0.0

    def follow(self, steps: "Generator[Step, None, _Result]") -> "Generator[Step, None, _Result]":
        """Yield the steps, send new ones to the lens ten times a second, and return what the run returns."""
        while True:
            try:
                step = next(steps)
            except StopIteration as finished:
                self._send()
                return finished.value
            self._waiting.append(wire.pack_block(step.start, step.tokens, step.text, step.arrays))
            if time.monotonic() >= self._due:
                self._send()
            yield step

    def _send(self) -> None:
        """Write the new tokens. If the visitor has pressed Stop, Streamlit ends the script in this call."""
        if self._waiting:
            self._position += 1
            self._placeholder.html(wire.tick(self._header, self._waiting, self._position))
            self._waiting, self._due = [], time.monotonic() + 1 / TICKS_PER_SECOND


def _labels(data: Any, dim: str) -> tuple[int, ...]:
    return tuple(data[dim].values.tolist())
