"""The tokenizer on any Unicode text, on text that spells special tokens, and on files it must refuse."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given

from model.checkpoint.chat_template import ASSISTANT, USER
from model.checkpoint.header import CheckpointError
from model.checkpoint.tokenizer import (
    Tokenizer,
    TokenizerError,
    invalid_spans,
)
from model.train.data.bpe import train_vocabulary

TEXT = ["the cat and the dog", "don't stop 12345", "été déjà", "数を数える", "x = f(y)\n\n"] * 20
SIZE = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    train_vocabulary(TEXT, SIZE, show_progress=False).save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


def test_special_tokens_have_the_published_ids(tokenizer: Tokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.size) == (0, 1, SIZE)
    assert tokenizer.piece(3) == "<｜User｜>"
    assert not any(tokenizer.token_bytes(token_id) for token_id in range(5))
    assert tokenizer.token_bytes(5)


def test_text_that_spells_a_special_token_stays_text(tokenizer: Tokenizer, folder: Path) -> None:
    published = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert published.encode("<｜User｜>").ids == [3]
    assert len(published.encode("<|User|>").ids) > 1
    ids = tokenizer.encode("<｜User｜>")
    assert len(ids) > 1
    assert all(map(tokenizer.token_bytes, ids))
    assert tokenizer.decode(ids).decode() == "<｜User｜>"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_spans_tile_any_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    tokens, run_text = tokenizer.tokens([0, *ids], num_prompt=1 + len(ids))
    assert run_text == text.encode()
    assert tokens[0].special
    assert [token.start for token in tokens] == [0] + [token.end for token in tokens[:-1]]
    assert tokens[-1].end == len(run_text)


@given(st.lists(st.integers(0, SIZE + 5), max_size=12))
def test_any_ids_have_spans_even_where_the_text_is_not_utf8(tokenizer: Tokenizer, ids: list[int]) -> None:
    tokens, text = tokenizer.tokens(ids, num_prompt=0)
    assert b"".join(text[token.start : token.end] for token in tokens) == text
    kept = [byte for place, byte in enumerate(text) if not any(a <= place < b for a, b in invalid_spans(text))]
    assert bytes(kept).decode() == text.decode(errors="ignore")


def test_generated_tokens_are_marked(tokenizer: Tokenizer) -> None:
    tokens, _ = tokenizer.tokens([0, 40, 41], num_prompt=2)
    assert [token.generated for token in tokens] == [False, False, True]


def test_lone_surrogate_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"character 3 .*U\+D800"):
        tokenizer.encode("ab\ud800")


def test_invalid_bytes_are_located() -> None:
    assert invalid_spans("aé".encode()) == ()
    assert invalid_spans(b"a\xffb" + "é".encode()[:1]) == ((1, 2), (3, 4))


def test_added_token_that_is_not_special_has_text(folder: Path, tmp_path: Path) -> None:
    published = json.loads((folder / "tokenizer.json").read_text())
    published["added_tokens"].append(
        published["added_tokens"][0] | {"id": SIZE, "content": "<think>", "special": False}
    )
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.token_bytes(SIZE) == b"<think>"
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("a<think>b") == reference.encode("a<think>b").ids
    assert SIZE in tokenizer.encode("<think>")


def with_letters(folder: Path, path: Path, **flags: bool) -> tokenizers.Tokenizer:
    """Write a vocabulary with umlauts as added tokens, as published for V2, and return the library's own."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_tokens([tokenizers.AddedToken(letter, **flags) for letter in ("ü", "ö", "ø", "<think>")])
    library.save(str(path / "tokenizer.json"))
    return library


@pytest.mark.parametrize(
    "flags",
    [{}, {"normalized": True}, {"normalized": False}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}],
    ids=str,
)
def test_added_tokens_that_are_not_special_are_matched_as_the_library_does(
    folder: Path, tmp_path: Path, flags: dict[str, bool]
) -> None:
    library, ours = with_letters(folder, tmp_path, **flags), Tokenizer.load(tmp_path)
    for text in ("Tür", "über höchstens", "ö", "a ö b", "the <think> cat</think>", "üöü\n\nø", "the cat"):
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids, text


def test_special_tokens_are_read_where_asked(folder: Path, tmp_path: Path) -> None:
    library, ours = with_letters(folder, tmp_path), Tokenizer.load(tmp_path)
    text = "<｜begin▁of▁sentence｜><｜User｜>über<｜Assistant｜>"
    assert ours.encode(text, parse_special=True) == library.encode(text, add_special_tokens=False).ids
    assert ours.special_in(text) == {"<｜begin▁of▁sentence｜>": 0, "<｜User｜>": 3, "<｜Assistant｜>": 4}
    assert not set(ours.encode(text)) & {0, 3, 4}
    assert ours.special_in("über") == {}


def test_ids_of_added_tokens_do_not_depend_on_which_are_special(folder: Path, tmp_path: Path) -> None:
    published = json.loads((folder / "tokenizer.json").read_text())
    new = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    published["added_tokens"] += [
        new | {"id": SIZE, "content": "<one>", "special": True},
        new | {"id": SIZE + 1, "content": "<two>", "special": False},
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    assert Tokenizer.load(tmp_path).encode("<two>") == [SIZE + 1]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("normalizer", {"type": "Strange"}, "its normalizer cannot be read"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}}, "its pre_tokenizer cannot be read"),
        ("decoder", 7, "its decoder cannot be read"),
        ("added_tokens", [{"id": "a"}], "added_tokens holds {'id': 'a'}, which has no id and content"),
        ("added_tokens", [{"id": 1, "content": {}}], "added_tokens holds"),
        ("added_tokens", [7], "added_tokens holds 7"),
    ],
)
def test_the_damaged_part_is_named(folder: Path, tmp_path: Path, part: str, value: object, message: str) -> None:
    published = json.loads((folder / "tokenizer.json").read_text()) | {part: value}
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_an_entry_that_is_added_under_another_id_must_be_spelled_in_bytes(folder: Path, tmp_path: Path) -> None:
    published = json.loads((folder / "tokenizer.json").read_text())
    published["model"]["vocab"]["｜"] = SIZE
    published["added_tokens"].append(published["added_tokens"][0] | {"id": SIZE + 1, "content": "｜"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    with pytest.raises(TokenizerError, match="entry '｜' is not spelled in bytes"):
        Tokenizer.load(tmp_path)


def test_a_pattern_that_gives_up_is_an_error_of_ours(folder: Path, tmp_path: Path) -> None:
    """The library panics; a panic is a BaseException."""
    published = json.loads((folder / "tokenizer.json").read_text())
    slow = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(published | {"pre_tokenizer": slow}))
    with pytest.raises(TokenizerError, match="cannot encode this text"):
        Tokenizer.load(tmp_path).encode("x" * 40)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    with pytest.raises(TokenizerError, match="a pointer of Git LFS, not the file itself"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not usable: it is not JSON"),
        ("[]", "holds no model"),
        ('{"model": {"type": "Unigram", "vocab": []}}', "its vocabulary is empty"),
        ('{"model": {"type": "BPE", "vocab": {"\\u2581the": 0}, "merges": []}}', "not spelled in bytes"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_link_out_of_a_model_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match="is a link out of its folder"):
        Tokenizer.load(folder)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks tokenizer.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(TokenizerError, match="cannot be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_question_stands_between_the_tokens_of_a_turn(tokenizer: Tokenizer, folder: Path) -> None:
    published = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    user, assistant = (published.token_to_id(name) for name in (USER, ASSISTANT))
    assert tokenizer.encode_turn("the cat") == [user, *tokenizer.encode("the cat"), assistant]


def test_tokens_of_a_turn_need_not_be_marked_as_special(folder: Path, tmp_path: Path) -> None:
    """As in the published files of V3 and R1."""
    published = json.loads((folder / "tokenizer.json").read_text())
    ids = {entry["content"]: entry["id"] for entry in published["added_tokens"]}
    for entry in published["added_tokens"]:
        entry["special"] = entry["content"] not in (USER, ASSISTANT)
    (tmp_path / "tokenizer.json").write_text(json.dumps(published))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.turn_ids == (ids[USER], ids[ASSISTANT])
    assert tokenizer.encode_turn("the cat") == [ids[USER], *tokenizer.encode("the cat"), ids[ASSISTANT]]


def test_vocabulary_without_turns_takes_no_question(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace(USER, "<｜Other｜>"))
    with pytest.raises(TokenizerError, match="no question can be put"):
        Tokenizer.load(tmp_path).encode_turn("the cat")
