import pytest

from model.atlas.schema import TOKEN_CLASSES
from model.sweep.classes import TokenClasses
from model.sweep.routing import encode
from model.sweep.texts import Document
from tests.sources import tokenizer


@pytest.fixture(scope="module")
def classes() -> TokenClasses:
    return TokenClasses(tokenizer(), tokenizer().size)


def classified(classes: TokenClasses, text: str, domain: str | None = None) -> list[tuple[str, str]]:
    """Return the text and the class of each token after the first 16."""
    filler = " a" * 15
    ids = encode(tokenizer(), Document(filler + text))
    found = classes.of(ids, domain)
    pairs = [
        (tokenizer().token_bytes(token_id).decode(errors="replace"), TOKEN_CLASSES[number])
        for token_id, number in zip(ids.tolist(), found, strict=True)
    ]
    assert pairs[0] == ("", "special")
    assert {name for _, name in pairs[1:16]} == {"first"}
    return pairs[16:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" the", [(" the", "word_start")]),
        (" (", [(" (", "punctuation")]),
        (" 1", [(" ", "space"), ("1", "digit")]),
        ("\n\n", [("\n\n", "space")]),
    ],
)
def test_each_token_has_the_class_of_its_text(classes: TokenClasses, text: str, expected: list) -> None:
    assert classified(classes, text) == expected


def test_a_word_goes_on_after_a_letter(classes: TokenClasses) -> None:
    names = [name for _, name in classified(classes, " antidisestablishmentarianism")]
    assert names[0] == "word_start"
    assert len(names) > 1
    assert set(names[1:]) == {"word_inside"}


def test_reserved_words_are_a_class_in_code_only(classes: TokenClasses) -> None:
    assert classified(classes, " return")[-1][1] == "word_start"
    assert classified(classes, " return", "code")[-1][1] == "keyword"
    assert "keyword" not in dict(classified(classes, " informing", "code")).values()


@pytest.mark.parametrize("text", [" мир", "世界", " की", "\U0001f600"])
def test_other_scripts_and_parts_of_characters(classes: TokenClasses, text: str) -> None:
    assert {name for _, name in classified(classes, text)} <= {"other_script", "space", "punctuation"}
    assert "other_script" in {name for _, name in classified(classes, text)}
