"""A page with only the lens, on a made-up trace and without a model, for the lens tests."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import streamlit as st

from model.trace.trace import Token, Trace
from pages.common import live
from tests.layouts import layout
from tests.traces import random_trace

# One character of three tokens, a mark that combines with the letter before it, white space, markup.
PIECES = (b"", b"Once", b" a", b" wolf", b"\xe7", b"\x8b", b"\xbc", b" n", b"\xcc\x83", b"\n", b"\t", b"<b>x</b>\x1b")
HELD = 32  # tokens


def make_trace(num_new: int) -> Trace:
    """Return a trace of twelve prompt tokens, then words."""
    spelled = [*PIECES, *([b" word"] * num_new)]
    random = random_trace(num_prompt=len(PIECES), num_new=num_new, num_layers=4, num_experts=16)
    ends = np.cumsum([len(piece) for piece in spelled]).tolist()
    ids = random.data["token_id"].values.tolist()
    tokens = tuple(
        Token(ids[i], repr(piece) if piece else "<bos>", ends[i] - len(piece), ends[i], i >= len(PIECES))
        for i, piece in enumerate(spelled)
    )
    return dataclasses.replace(random, tokens=tokens, text=b"".join(spelled))


def steps_of(trace: Trace, gate: Path | None) -> Iterator[SimpleNamespace]:
    """Yield the steps of an engine for this trace; after `HELD` tokens it waits until the file `gate` exists."""
    cuts = [0, *range(len(PIECES), trace.num_tokens + 1)]
    for start, end in zip(cuts, cuts[1:], strict=False):
        arrays = {name: values.values[start:end] for name, values in trace.data.items() if "token" in values.dims}
        arrays["attention"] = trace.data["attention"].values[:, :, start:end, :end]
        text = trace.text[: trace.tokens[end - 1].end]
        while start == HELD and gate is not None and not gate.exists():
            time.sleep(0.02)
        yield SimpleNamespace(start=start, tokens=trace.tokens[start:end], text=text, arrays=arrays)
        time.sleep(0.02)


st.set_page_config(layout="wide")
state = st.session_state
state["reruns"] = state.get("reruns", 0) + 1
state.setdefault("shown", make_trace(4))
state.setdefault("number", 0)
go = st.button("Generate")
st.button("Stop")
trace = make_trace(40)
if go:
    state["number"] += 1
header = dataclasses.replace(live.header_of(trace, state["number"]), running=True)
live.lens(
    live.wire.snapshot(header) if go else live.snapshot_of(state["shown"], state["number"]),
    key="lens",
    palette=live.palettes(layout(16, 4)),
    view=(state.get("lens") or {}).get("view") or {"layer": 2},
    band=(0.5, 1.5),
)
if go:
    blocks: list[bytes] = []
    feed = live.Feed(header, blocks)
    for step in steps_of(trace, Path(st.query_params["gate"]) if "gate" in st.query_params else None):
        blocks.append(live.wire.pack_block(step.start, step.tokens, step.text, step.arrays))
        feed.send()
    state["shown"] = trace
    st.rerun()
st.text(f"reruns {state['reruns']}")
st.json((state.get("lens") or {}).get("view") or {}, expanded=True)
