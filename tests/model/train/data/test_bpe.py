"""The pre-tokenizer on the published split cases, and the vocabulary's layout."""

import pytest

from model.train.data.bpe import SPECIAL_TOKENS, pre_tokenizer, train_vocabulary


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("don't stop", ["don", "'t", "Ġstop"]),
        ("x=1;\n\n  y", ["x", "=", "1", ";ĊĊ", "Ġ", "Ġy"]),
        ("12345 678", ["123", "45", "Ġ", "678"]),
        ("a.\n", ["a", ".Ċ"]),
        ("f(x).foo", ["f", "(x", ").", "foo"]),
        ("10²", ["10Â²"]),
        ("①②③", ["âĳłâĳ¡âĳ¢"]),
    ],
)
def test_splits_as_published(text: str, parts: list[str]) -> None:
    assert [part for part, _ in pre_tokenizer().pre_tokenize_str(text)] == parts


def test_han_and_kana_stand_apart_from_letters() -> None:
    assert len(pre_tokenizer().pre_tokenize_str("abc漢字かなdef")) == 3


def test_vocabulary_begins_with_the_special_tokens() -> None:
    tokenizer = train_vocabulary(["the cat the cat"], 270, show_progress=False)
    assert [tokenizer.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert tokenizer.decode(tokenizer.encode("the cat é").ids) == "the cat é"


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 261"):
        train_vocabulary(["a"], 200)
