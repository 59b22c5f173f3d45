"""Vocabularies of SentencePiece kind: the bytes of all tokens are the text; kinds that are not known are refused."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import example, given

from model.checkpoint.encoding import is_harmless
from model.checkpoint.tokenizer import Tokenizer, TokenizerError
from model.checkpoint.vocabulary import byte_alphabet, from_sentencepiece, no_tokenizer
from tests.model.checkpoint.vocabularies import NAMES, SPECIAL, published, write

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))
HARD = (
    "",
    " ",
    "  a \t\n\n b ",
    "naïve Übermut",
    "👩‍👩‍👧 🏳️‍🌈",
    "مرحبا بالعالم",
    "数を数える",
    "\r\n\x00\ufeff",
    "é",
    "e\u0301",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name), published(name)) for name in NAMES}


@pytest.fixture(scope="module")
def vocabularies(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(folder) for name, folder in folders.items()}


def with_first_space(name: str, text: str) -> str:
    """Return a text with the space that the pipeline puts before it, worked out by its published rule."""
    if name == "gemma" or not text:
        return text
    return text if name != "mixtral" and text.startswith(" ") else " " + text


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXT)
@example(text=" ".join(HARD))
def test_the_bytes_of_the_tokens_are_the_text(vocabularies: dict[str, Tokenizer], name: str, text: str) -> None:
    ours = vocabularies[name]
    ids = ours.encode(text)
    tokens, run_text = ours.tokens([1, *ids], num_prompt=1 + len(ids))
    assert run_text.decode() == with_first_space(name, text)
    assert tokens[0].special
    assert [token.start for token in tokens] == [0] + [token.end for token in tokens[:-1]]
    assert tokens[-1].end == len(run_text)


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_text_are_those_of_the_library(
    folders: dict[str, Path], vocabularies: dict[str, Tokenizer], name: str
) -> None:
    library, ours = tokenizers.Tokenizer.from_file(str(folders[name] / "tokenizer.json")), vocabularies[name]
    for text in HARD:
        ids = ours.encode(text)
        assert ids == library.encode(text, add_special_tokens=False).ids, text
        if name != "unigram":  # its decoder leaves bytes spelled out
            decoded = ours.decode(ids).decode()
            assert library.decode(ids) == (decoded if name == "gemma" else decoded.removeprefix(" ")), text


@pytest.mark.parametrize("name", NAMES)
def test_rare_characters_fall_back_to_their_bytes(vocabularies: dict[str, Tokenizer], name: str) -> None:
    ours = vocabularies[name]
    spelled = [ours.piece(token_id) for token_id in ours.encode("ᚠ")]
    assert spelled[-3:] == ["<0xE1>", "<0x9A>", "<0xA0>"]
    assert [ours.token_bytes(ours.size - 256 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert not any(ours.token_bytes(token_id) for token_id in range(len(SPECIAL)))


def test_entries_are_spelled_by_hand() -> None:
    assert from_sentencepiece("▁▁été") == "  été".encode()
    assert from_sentencepiece("<0x0A>") == b"\n"
    assert from_sentencepiece("<0x0A>x") == b"<0x0A>x"
    assert from_sentencepiece("▁") == b" "


def test_a_character_without_an_entry_is_an_unknown_token_without_text(tmp_path: Path) -> None:
    content = published("mixtral")
    content["model"]["byte_fallback"] = False
    ours = Tokenizer.load(write(tmp_path, content))
    ids = ours.encode("a ᚠ b")
    assert [ours.piece(token_id) for token_id in ids if not ours.token_bytes(token_id)] == ["<unk>"]


def test_the_spelling_of_a_special_token_stays_text_or_is_refused(vocabularies: dict[str, Tokenizer]) -> None:
    for name in ("mixtral", "metaspace", "gemma"):
        assert vocabularies[name].decode(vocabularies[name].encode("a</s>")).strip() == b"a</s>"
    assert vocabularies["mixtral"].encode("</s>", parse_special=True) == [2]
    with pytest.raises(TokenizerError, match="cannot read </s> as text; change its spelling"):
        vocabularies["unigram"].encode("</s>")


def test_spelling_spaces_needs_no_process_of_its_own(vocabularies: dict[str, Tokenizer]) -> None:
    assert [name for name in NAMES if is_harmless(published(name))] == ["mixtral", "metaspace", "gemma"]


TO_SPACE = published("gemma")["decoder"]["decoders"][0]
WORD_PIECE = {"type": "WordPiece", "prefix": "##", "cleanup": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": WORD_PIECE}, "entry '.*' is not spelled in bytes; only byte-level BPE and SentencePiece are"),
        ({"decoder": {"type": "Sequence", "decoders": [TO_SPACE, WORD_PIECE]}},
         "its decoder has the step 'WordPiece', which is not known here; give token ids instead of text"),
        ({"decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}}, "is not spelled in bytes"),
        ({"decoder": {"type": "Sequence", "decoders": [TO_SPACE, 7]}}, "has the step 7"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "its model is WordPiece, .* give token ids"),
        ({"model": {"type": "Unigram", "vocab": ["a"]}}, "holds 'a', which is no pair of an entry and a number"),
        ({"model": {"type": "Unigram", "vocab": []}}, "its vocabulary is empty"),
        ({"model": {"type": "BPE", "vocab": {"a": "b"}}}, "entry 'a' has the id 'b'"),
        ({"model": {"type": "BPE", "vocab": {"Ġa": 0}, "merges": []}}, "no entry holds ▁: it was saved by a class for"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(write(tmp_path, published("mixtral") | changes))


def test_a_folder_without_tokenizer_json_says_how_to_convert_another_file(tmp_path: Path) -> None:
    folder = tmp_path / "some-model"
    folder.mkdir()
    assert no_tokenizer(folder) == "some-model has no tokenizer.json; give token ids instead of text"
    (folder / "tokenizer.model").write_bytes(b"")
    assert "only tokenizer.model; give token ids instead of text, add a published" in no_tokenizer(folder)
    assert "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)" in no_tokenizer(folder)


def test_alphabet_names_each_byte_once() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert byte_alphabet()["Ġ"] == ord(" ")
