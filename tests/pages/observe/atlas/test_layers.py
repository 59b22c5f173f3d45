from model.atlas.folder import Sweep
from pages.common.menu import page_path
from tests.pages.conftest import charts, numbers, said
from tests.pages.observe.atlas.conftest import OpenApp

PAGE = page_path("atlas")


def test_information_within_the_language_comes_first(show_at: OpenApp, sweep: Sweep) -> None:
    app = show_at(part="Layers")
    held, whole = charts(app)[1]["data"]
    assert (held["name"], whole["name"]) == ("within a language", "over all documents")
    assert numbers(held["x"])[1] > 0.02 > numbers(held["x"])[0]
    assert "bit about the domain of its document, in L2** (within a language)" in said(app)
    assert "1 of 2 layers tell more than 200 shuffles" in said(app)
    assert "n = 120 documents" in said(app)


def test_information_about_the_language_holds_the_domain_fixed(show_at: OpenApp, sweep: Sweep) -> None:
    assert charts(show_at(part="Layers", by="language"))[1]["data"][0]["name"] == "within a domain"
