"""The page on the architecture: any model in use, the released ones, and a run painted on the one it is of."""

import dataclasses
import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from model.checkpoint.embedded import CONFIGS
from model.trace.file import save
from model.trace.trace import Trace
from pages.common import models
from pages.common.menu import page_path
from pages.learn.architecture.drawing import SHORT, count, layers
from pages.learn.architecture.tabs import BESIDE, TEXT
from tests.models import tiny_config
from tests.pages.conftest import charts, said
from tests.traces import random_trace
from viz.theme import LIGHT

OpenApp = Callable[..., AppTest]
PAGE = page_path("architecture")
OF_TRACE = {"num_layers": 3, "num_experts": 8, "top_k": 2, "num_heads": 2}  # as random traces are
SPARSE = {"model_type": "deepseek_v32", "index_heads": 2, "index_head_dim": 16, "index_topk": 8}


def write(folder: Path, **changes: object) -> dict[str, Any]:
    """A folder that holds nothing but a configuration."""
    published = tiny_config(**OF_TRACE | changes).to_json()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published))
    return published


@pytest.fixture
def show(open_app: OpenApp, recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenApp:
    """Opens the page on a tiny model whose trace is on show, or on another."""

    def shown(trace: Trace | None = None, changes: dict[str, object] | None = None, **address: str) -> AppTest:
        published = write(tmp_path / "tiny", **changes or {})
        monkeypatch.setattr(models, "available", lambda: {"tiny": tmp_path / "tiny"})
        own = random_trace(num_prompt=5, num_new=9)
        own = dataclasses.replace(own, model=dict(own.model) | {"name": "tiny", "config": published})
        save(trace or own, recorded / "story.safetensors")
        app = open_app(**address).switch_page(PAGE)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    return shown


def take_click() -> None:
    """A script that does what a click on the picture does."""
    import streamlit as st

    from pages.learn.architecture.tabs import take_click

    st.session_state["architecture"] = st.session_state["clicked"]
    take_click()


def notes(figure: dict[str, Any]) -> list[str]:
    return [note["text"] for note in figure["layout"]["annotations"]]


def test_model_in_use_with_the_run_that_is_on_show(show: OpenApp) -> None:
    app = show()
    (figure,) = charts(app)
    assert "**tiny**:" in said(app)
    assert "residual norm" in notes(figure)
    assert any("× uniform" in str(text) for trace in figure["data"] for text in trace.get("text", []))
    assert app.selectbox(key="part").value == "moe-experts"
    assert app.selectbox(key="layer").options == ["1", "2"]


@pytest.mark.parametrize(
    ("of", "parameters"), [("DeepSeek-V3", "671,026,419,200"), ("DeepSeek-V3.2", "671,877,944,064")]
)
def test_released_models_are_described_by_their_configurations(show: OpenApp, of: str, parameters: str) -> None:
    app = show(of=of, part="embedding")
    (figure,) = charts(app)
    assert parameters in said(app)
    assert "it is not run here" in said(app)
    assert "residual norm" not in notes(figure)
    assert [box.key for box in app.selectbox if box.key == "layer"] == []
    labels = [text for text in notes(figure) if "×" in text]
    assert labels == ["<b>3 ×</b> dense, layers 0 to 2", "<b>58 ×</b> mixture of experts, layers 3 to 60"]


@pytest.mark.parametrize("of", ["tiny (in use)", "DeepSeek-V3.2"])
def test_every_part_can_be_looked_at(show: OpenApp, of: str) -> None:
    app = show(of=of)
    options, seen = app.selectbox(key="part").options, set()
    for number in range(len(options)):
        app.selectbox(key="part").select_index(number).run()
        (figure,) = charts(app)
        assert app.latex
        outlined = [shape for shape in figure["layout"]["shapes"] if shape["line"]["color"] == LIGHT.ink]
        seen.add(json.dumps(outlined))
        assert len(outlined) == 1
    assert len(seen) == len(options)


def test_link_restores_the_part(show: OpenApp) -> None:
    app = show(of="DeepSeek-V3.2", part="moe indexer", context="4096", bytes="float32")
    assert app.selectbox(key="part").value == "moe-indexer"
    assert "**Lightning indexer**" in said(app)
    table = app.dataframe[1].value
    assert table["a layer"].tolist()[:2] == ["13,959,424", "13,959,424"]
    assert table["a layer"].tolist()[4:] == ["512", f"{4 * 128 * 4096:,}"]
    assert app.dataframe[2].value["tensor"].tolist() == [
        "wq_b.weight",
        "wk.weight",
        "k_norm.weight",
        "k_norm.bias",
        "weights_proj.weight",
    ]


def test_part_of_another_model_or_page_is_forgotten(show: OpenApp) -> None:
    app = show(of="DeepSeek-V3.2", part="moe indexer")
    app.get("button_group")[0].set_value("in use").run()
    assert not app.exception
    assert app.selectbox(key="part").value == "moe-experts"


def test_pages_that_name_their_own_parts_do_not_disturb_each_other(show: OpenApp) -> None:
    app = show(part="moe gate")
    app.switch_page(page_path("routing")).run()
    assert not app.exception
    app.switch_page(PAGE).run()
    assert not app.exception
    assert app.selectbox(key="part").value in ("moe-gate", "moe-experts")


def test_run_of_another_model_is_not_painted(show: OpenApp) -> None:
    app = show(trace=random_trace())
    (figure,) = charts(app)
    assert "residual norm" not in notes(figure)
    assert "Nothing is painted" in said(app)


def test_run_of_a_released_model_is_painted_on_it(show: OpenApp) -> None:
    published = json.loads((CONFIGS / "deepseek-v3.json").read_text())
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


def test_click_chooses_part_layer_and_expert() -> None:
    clicked = AppTest.from_function(take_click)
    clicked.session_state["clicked"] = {"selection": {"points": [{"customdata": ["moe-gate", -1, -1]}]}}
    clicked.run()
    assert not clicked.exception
    assert clicked.session_state["part"] == "moe-gate"
    assert "layer" not in clicked.session_state
    clicked.session_state["clicked"] = {"selection": {"points": [{"customdata": {"0": "moe-experts", "1": 2, "2": 7}}]}}
    clicked.run()
    assert [clicked.session_state[name] for name in ("part", "layer", "expert")] == ["moe-experts", 2, 7]


def test_sparse_model_shows_its_indexer(show: OpenApp) -> None:
    app = show(changes=SPARSE)
    assert "moe indexer" in app.selectbox(key="part").options


def test_v3_beside_v32_marks_what_was_added(show: OpenApp) -> None:
    app = show(table=BESIDE, of="DeepSeek-V3")
    _, cost, before, after = charts(app)
    marked = [
        [shape for shape in figure["layout"]["shapes"] if shape["line"]["color"] == LIGHT.change[-1]]
        for figure in (before, after)
    ]
    assert [len(shapes) for shapes in marked] == [0, 2]
    assert {note["text"] for note in cost["layout"]["annotations"]} >= {"V3", "V3.2"}
    assert "to each of 61 layers" in said(app)
    assert "13,959,424 parameters in a layer" in said(app)
    table = app.dataframe[-1].value
    assert table["added"].sum() == 62 * 13_959_424


def test_folder_that_cannot_be_described(show: OpenApp, tmp_path: Path) -> None:
    app = show(changes={"num_groups": 4})
    (tmp_path / "tiny" / "config.json").write_text('{"model_type": "llama"}')
    st.cache_resource.clear()
    app.run()
    assert not app.exception
    assert "cannot be described" in said(app)
    assert "llama" in said(app)


def test_every_kind_of_part_has_its_words() -> None:
    texts = tomllib.loads(TEXT.read_text(encoding="utf-8"))
    assert set(SHORT) <= set(texts)
    for text in texts.values():
        assert text["title"]
        assert text["formulas"]
        assert "report" in text["source"]


@pytest.mark.parametrize(
    ("number", "spelled"),
    [(0, "0"), (999, "999"), (999_900, "1.00 M"), (12_345, "12.3 k"), (671_026_419_200, "671 B"), (1.2e12, "1.20 T")],
)
def test_numbers_have_three_digits(number: float, spelled: str) -> None:
    assert count(number) == spelled


def test_layers_in_words() -> None:
    assert layers(range(3, 61)) == "layers 3 to 60"
    assert layers(range(0, 40, 2)) == "layers 0, 2, 4, 6, …, 38"
