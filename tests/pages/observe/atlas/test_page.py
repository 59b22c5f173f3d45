from pathlib import Path

from model.atlas.folder import Sweep
from pages.common.menu import page_path
from tests.pages.conftest import said
from tests.pages.fakes import FakeEngine
from tests.pages.observe.atlas.conftest import OpenApp, planted

PAGE = page_path("atlas")


def test_first_screen_names_corpus_and_model(show: OpenApp, sweep: Sweep, engine: FakeEngine) -> None:
    app = show()
    assert not app.exception
    assert "What is each expert for?" in said(app)
    assert (
        r"hand\-made, measured on cpu, float32; n = 120 documents, 3,600 tokens; 2 domains; 2 languages; 10 sources."
        in (said(app))
    )
    assert engine.requests == []


def test_page_without_a_sweep_says_how_to_make_one(show: OpenApp, shelf: Path) -> None:
    assert "`python -m model sweep` makes one; name its folder in MOE_LOUPE_SWEEPS" in show().info[0].value


def test_damaged_sweep_is_named_without_its_path(show: OpenApp, sweep: Sweep, shelf: Path) -> None:
    (shelf / "mini" / "counts.parquet").write_bytes(b"no table")
    message = show().info[0].value
    assert message.startswith(r"mini\/counts.parquet is damaged")
    assert str(shelf) not in message


def test_second_sweep_opens_by_its_name_in_the_address(show_at: OpenApp, sweep: Sweep, shelf: Path) -> None:
    planted(shelf / "other", labelled=False)
    app = show_at(sweep="other")
    assert app.selectbox(key="sweep").value == "other"
    assert "sources" not in said(app)


def test_table_that_is_damaged_inside_is_named_where_it_is_needed(show: OpenApp, sweep: Sweep, shelf: Path) -> None:
    path = shelf / "mini" / "tokens.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    app = show()
    assert not app.exception
    assert app.error[0].value.startswith(r"mini\/tokens.parquet is damaged")


def test_sweep_without_labels_keeps_its_other_parts(show_at: OpenApp, shelf: Path) -> None:
    planted(shelf / "mini", labelled=False)
    assert "takes 0." in said(show_at())
    for part in ("Layers", "How sure"):
        assert "The documents of this sweep have no labels" in show_at(part=part).info[-1].value
