"""Files of other engines, and the Imports page."""

from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.imports.formats import read
from model.trace.trace import Trace
from pages.audit.imports import choices
from pages.common.menu import page_path
from tests import engines
from tests.engines import TINY, as_json

PAGE = page_path("imports")
IDS = engines.random_ids()
ANSWER = as_json(engines.vllm_npy(IDS))
OpenApp = Callable[..., AppTest]


def logits() -> bytes:
    return engines.router_logits(np.random.default_rng(0).normal(size=(6, 4, 16)).astype(np.float32))


FILES: dict[str, Callable[[], Trace]] = {
    "vLLM": lambda: read(ANSWER, "auto", TINY),
    "SGLang": lambda: read(as_json(engines.sglang_openai(IDS)), "auto", TINY),
    "llama.cpp": lambda: read(engines.moe_trace(IDS), "auto", TINY),
    "logits without a model": lambda: read(logits()),
    "logits without a bias": lambda: read(logits(), "auto", TINY),
    "logits": lambda: read(logits(), "auto", engines.Named("t", engines.CONFIG, bias=lambda layer: np.zeros(16, "f4"))),
}


@pytest.fixture
def page(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(choices, "named", lambda name: TINY)
    return open_app().switch_page(PAGE).run()


def bring(app: AppTest, content: bytes, name: str = "answer.json", model: str = "fake") -> AppTest:
    app.file_uploader(key="import_file").set_value((name, content, "application/octet-stream"))
    app.selectbox(key="import_model").set_value(model)
    return app.run().button(key="import_show").click().run()
