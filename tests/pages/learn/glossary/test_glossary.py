"""The words of the glossary, and what is refused in its file."""

import re
from pathlib import Path

import pytest

from pages.common import view
from pages.learn.architecture import catalogue, choices
from pages.learn.glossary import glossary
from pages.learn.glossary.glossary import GlossaryError, matching, parse
from pages.observe.routing.tabs import TABS

ROOT = Path(__file__).parents[4]
# Words of the project's English that are about code, not about models.
OF_CODE = {"figure in code", "chart or map on pages", "placeholder", "generate", "accepted", "rejected"}
ROUTER = '[Routing.router]\nsays = "It chooses."\npage = "routing"\n'


def test_words_are_many_and_each_has_its_page() -> None:
    words = glossary.words()
    assert len(words) >= 60
    assert all(word.path.is_file() for word in words)
    assert glossary.subjects()[0] == "Text"


def test_words_of_the_projects_english_are_explained() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| say | not |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    said = {re.sub(r"\(.*?\)", "", part).strip() for cell in cells for part in re.split(r"[;,]| or (?=rejected)", cell)}
    forms = {form.casefold() for word in glossary.words() for form in word.forms}
    assert len(said) > 15
    assert {word for word in said if word and word not in OF_CODE and word.casefold() not in forms} == set()


@pytest.mark.parametrize("word", [word for word in glossary.words() if word.formula], ids=lambda word: word.word)
def test_formulas_are_balanced(word: glossary.Word) -> None:
    plain = re.sub(r"\\[{}]", "", word.formula)
    assert plain.count("{") == plain.count("}")
    assert word.formula.count(r"\left") - word.formula.count(r"\leftarrow") == word.formula.count(r"\right")


def test_choices_on_a_page_exist_there() -> None:
    parts = {choices.spelled(part.key) for name in catalogue.TITLES for part in catalogue.load(name).parts.all}
    known = {("routing", "part"): TABS, ("explore", "colour"): view.LENS_ONLY["colour"]}
    known[("architecture", "part")] = parts
    for word in glossary.words():
        for key, value in word.choices.items():
            assert value in known[(word.page, key)], word.word


def test_a_search_finds_spellings_before_sentences() -> None:
    found = [word.word for word in matching("  LOAD ")]
    assert found[:2] == ["load", "load ratio"]
    assert "chance band" in found
    assert [word.word for word in matching("affinities")][0] == "affinity"
    assert matching("no such word") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[Routing", "the glossary is no TOML"),
        ('[Routing]\nrouter = "text"', "'router' must be a table, not 'text'"),
        ('[Routing.router]\nsays = "It chooses."', "'router' lacks 'page'"),
        (f"{ROUTER}colour = 1", "'router' has the unknown key 'colour'; choose from says, page, forms"),
        (f"{ROUTER}formula = 1", "'formula' of 'router' must be a str, not 1"),
        (f"{ROUTER}forms = [1]", "'forms' and 'with' of 'router' must hold texts"),
        (ROUTER.replace("chooses.", "chooses"), "'says' of 'router' must be a sentence of at most 160 characters"),
        (ROUTER.replace("chooses", "chooses" * 30), "'says' of 'router' must be a sentence of at most 160 characters"),
        (ROUTER.replace('"routing"', '"rooting"'), "'router' names the page 'rooting', which the menu does not have"),
        (ROUTER + ROUTER.replace("router", "gate") + 'forms = ["routers"]', "'routers' is a spelling of 'router' and"),
    ],
)
def test_a_wrong_entry_is_named(content: str, message: str) -> None:
    with pytest.raises(GlossaryError, match="^" + re.escape(message)):
        parse(content)
