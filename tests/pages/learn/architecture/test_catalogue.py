"""Models that can be shown, and whether a run is theirs."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from model.checkpoint.embedded import released_config
from pages.common.menu import page_path
from tests.pages.conftest import charts, said
from tests.pages.learn.architecture.conftest import notes
from tests.traces import V4, family_trace, random_trace

OpenApp = Callable[..., AppTest]

PAGE = page_path("architecture")


@pytest.mark.parametrize(
    ("of", "parameters"), [("DeepSeek-V3", "671,026,419,200"), ("DeepSeek-V3.2", "671,877,944,064")]
)
def test_released_models_are_described_by_their_configurations(show: OpenApp, of: str, parameters: str) -> None:
    app = show(of=of, part="embedding")
    (figure,) = charts(app)
    assert parameters in said(app)
    assert "the model cannot be run here" in said(app)
    assert "residual norm" not in notes(figure)
    assert [box.key for box in app.selectbox if box.key == "layer"] == []
    labels = [text for text in notes(figure) if "×" in text]
    assert labels == ["<b>3 ×</b> dense, layers 0 to 2", "<b>58 ×</b> mixture of experts, layers 3 to 60"]


def test_released_v4_is_described_by_its_configuration(show: OpenApp) -> None:
    app = show(of="DeepSeek-V4-Flash", part="csa indexer")
    (figure,) = charts(app)
    text = said(app)
    for words in (
        "284,332,240,471", "6,880 bytes of cache per token, and at most 5,636,096 bytes for the sliding windows",
        "the model cannot be run here", "The 4 lines on the left", "the indexer reads one entry for each 4 tokens",
    ):  # fmt: skip
        assert words in text
    labels = [note for note in notes(figure) if "×" in note]
    assert labels == [
        "<b>2 ×</b> window, routed by token id, layers 0 to 1",
        "<b>1 ×</b> CSA, routed by token id, layer 2",
        "<b>20 ×</b> HCA, layers 3, 5, 7, 9, …, 41",
        "<b>20 ×</b> CSA, layers 4, 6, 8, 10, …, 42",
    ]
    assert app.selectbox(key="context").options[-1] == "1048576"
    assert app.selectbox(key="bytes").options[-1] == "FP4 experts, block FP8"


def test_folder_of_a_v4_model_is_described_without_reading_its_weights(show: OpenApp, tmp_path: Path) -> None:
    app = show()
    published = json.loads(released_config("deepseek-v4-flash").read_text())
    small = {"num_hidden_layers": 4, "hidden_size": 64, "n_routed_experts": 8, "num_attention_heads": 8}
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(published | small))
    st.cache_resource.clear()
    app.run()
    assert not app.exception
    assert "**tiny**:" in said(app)
    assert "cannot be run here" not in said(app)
    assert app.selectbox(key="part").options[1] == "window hash attention mix"


def test_run_of_a_v4_model_is_painted_on_it(show: OpenApp, tmp_path: Path) -> None:
    published = json.loads(released_config("deepseek-v4-flash").read_text())
    published |= {"num_hidden_layers": 4, "n_routed_experts": 8, "num_experts_per_tok": 2}
    trace = family_trace(V4, num_layers=4, table_layers=(0, 1))
    trace = dataclasses.replace(trace, model=dict(trace.model) | {"name": "tiny", "config": published})
    app = show(trace)
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(published))
    st.cache_resource.clear()
    (figure,) = charts(app.run())
    assert "norm of 4 streams" in notes(figure)
    assert "the residual norm of all 4 residual streams together after each layer" in said(app)
    assert "load of L0, × uniform" in json.dumps(figure, ensure_ascii=False)


def test_run_of_another_model_is_not_painted(show: OpenApp) -> None:
    app = show(trace=random_trace())
    (figure,) = charts(app)
    assert "residual norm" not in notes(figure)
    assert "No data of a run is drawn" in said(app)


def test_run_of_a_released_model_is_painted_on_it(show: OpenApp) -> None:
    published = json.loads(released_config("deepseek-v3").read_text())
    trace = random_trace(num_layers=61, num_experts=256, num_groups=8, num_kept=4, top_k=8, num_heads=1)
    data = trace.data[["token_id", "logprob", "residual_norm", "expert_id"]].sel(moe_layer=slice(3, None))
    model = {"name": "as the engine called it", "config": published}
    app = show(dataclasses.replace(trace, data=data, model=model), of="DeepSeek-V3", layer="40")
    (figure,) = charts(app)
    assert "residual norm" in notes(figure)
    assert "load of L40, × uniform" in json.dumps(figure, ensure_ascii=False)
    assert app.selectbox(key="layer").options == [str(layer) for layer in range(3, 61)]
    began = time.process_time()
    app.run()
    assert time.process_time() - began < 2  # about 0.2


def test_folder_that_cannot_be_described(show: OpenApp, tmp_path: Path) -> None:
    app = show(changes={"num_groups": 4})
    (tmp_path / "tiny" / "config.json").write_text('{"model_type": "llama"}')
    st.cache_resource.clear()
    app.run()
    assert not app.exception
    assert "cannot be described" in said(app)
    assert str(tmp_path) not in said(app).replace("\\", "")
    assert "llama" in said(app)
