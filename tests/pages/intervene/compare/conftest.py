"""Two runs to compare, and how a test brings them to the page."""

import dataclasses
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from model.run.request import RunRequest
from model.trace.trace import Trace
from pages.intervene.compare import runs
from tests.traces import random_trace


def shown() -> Trace:
    return random_trace(seed=9, num_prompt=5, num_new=9)


def nudged(trace: Trace, token: int = 6, layer: int = 2) -> Trace:
    """Return the same trace with other experts in one choice."""
    ids = trace.data["expert_id"].values.copy()
    place = trace.data["moe_layer"].values.tolist().index(layer)
    unused = sorted(set(range(8)) - set(ids[token, place].tolist()))
    ids[token, place, 1] = unused[0]
    logprob = trace.data["logprob"].values.copy()
    logprob[token] -= 0.5
    data = trace.data.assign(expert_id=(trace.data["expert_id"].dims, ids), logprob=("token", logprob))
    return dataclasses.replace(trace, data=data, origin={**trace.origin, "dtype": "bfloat16"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str, RunRequest]]:
    """What was run for side B; it gives the shown run with one choice turned."""
    requests: list[tuple[Path, str, RunRequest]] = []

    def run(folder: Path, dtype: str, request: RunRequest) -> Trace:
        requests.append((folder, dtype, request))
        return nudged(shown())

    monkeypatch.setattr(runs, "run", run)
    return requests


def strip(app: AppTest) -> str:
    assert not app.exception
    return next(element.proto.body for element in app.get("html") if 'class="strip splits"' in element.proto.body)


def upload(app: AppTest, side: str, content: bytes, name: str = "other.safetensors") -> AppTest:
    app.selectbox(key=side).set_value("trace file")
    app.run()
    return app.file_uploader(key=f"{side}-file").upload(name, content).run()
