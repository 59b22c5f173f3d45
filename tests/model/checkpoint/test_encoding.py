"""Tokenizers that encode in this process, and errors in place of the library's failures."""

import io
import json
from typing import Any

import pytest
import tokenizers

from model.checkpoint.encoding import OF_FAMILIES, Encoding, EncodingError, is_harmless, serve
from model.train.data.bpe import train_vocabulary

SIZE = 300
PUBLISHED = json.loads(train_vocabulary(["the cat and the dog", "été 12345"] * 20, SIZE, show_progress=False).to_str())
KNOWN = PUBLISHED["pre_tokenizer"]["pretokenizers"][0]
SLOW = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("changes", "harmless"),
    [
        ({}, True),
        ({"normalizer": {"type": "Sequence", "normalizers": []}}, True),
        ({"normalizer": {"type": "NFC"}}, True),
        ({"pre_tokenizer": None}, True),
        ({"pre_tokenizer": KNOWN}, True),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}}, False),
        ({"normalizer": {"type": "Prepend", "prepend": "a"}}, False),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled"}]}}, False),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}}, False),
        ({"normalizer": {"type": "Sequence", "pretokenizers": []}}, True),
        ({"normalizer": 7}, False),
        ({"pre_tokenizer": SLOW}, False),
        ({"pre_tokenizer": KNOWN | {"pattern": {"String": "a"}}}, False),
    ],
)
def test_only_known_steps_are_harmless(changes: dict[str, Any], harmless: bool) -> None:
    assert is_harmless(PUBLISHED | changes) == harmless


@pytest.mark.parametrize("pattern", OF_FAMILIES)
def test_patterns_of_published_vocabularies_need_time_in_proportion_to_the_text(pattern: str) -> None:
    """The library gives up where a pattern backtracks too far."""
    splits = [KNOWN | {"pattern": {"Regex": pattern}}, PUBLISHED["pre_tokenizer"]["pretokenizers"][-1]]
    published = PUBLISHED | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": splits}}
    assert is_harmless(published)
    encoding = Encoding(published)
    for unit in ("A中", "ʰ", " ", "\t\n", "'s", "é\u0301", "!/"):
        assert encoding.encode(unit * 20_000, False), unit


def test_ids_are_those_of_the_library_and_a_text_is_never_cut_off() -> None:
    library = tokenizers.Tokenizer.from_str(json.dumps(PUBLISHED))
    text = "the <｜User｜> cat 12345 été"
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    assert Encoding(PUBLISHED | {"truncation": cut}).encode(text, True) == library.encode(text).ids
    library.encode_special_tokens = True
    assert Encoding(PUBLISHED).encode(text, False) == library.encode(text).ids


def test_added_tokens_whose_ids_the_library_changes_are_refused() -> None:
    entry = PUBLISHED["added_tokens"][0] | {"content": "<new>", "id": SIZE + 7}
    size = len(PUBLISHED["model"]["vocab"])
    with pytest.raises(EncodingError, match=rf"'<new>' the id 307, the tokenizers library gives it {size}; renumber"):
        Encoding(PUBLISHED | {"added_tokens": [*PUBLISHED["added_tokens"], entry]})


def test_the_part_that_fails_is_named() -> None:
    with pytest.raises(EncodingError, match="its normalizer cannot be read: "):
        Encoding(PUBLISHED | {"normalizer": {"type": "Strange"}})
    with pytest.raises(EncodingError, match="its pre_tokenizer cannot be run on this text: .*retry-limit"):
        Encoding(PUBLISHED | {"pre_tokenizer": SLOW}).encode("x" * 40, False)


def test_a_worker_answers_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.checkpoint.encoding._limit_memory", lambda num_bytes: None)
    requests = [
        {"published": PUBLISHED | {"pre_tokenizer": SLOW}, "bytes": 1},
        {"text": "the", "parse_special": False},
        {"text": "x" * 40, "parse_special": False},
    ]
    answers = io.BytesIO()
    serve(io.BytesIO(b"".join(json.dumps(one | {"seconds": 60}).encode() + b"\n" for one in requests)), answers)
    opened, ids, refused = map(json.loads, answers.getvalue().splitlines())
    assert (opened, list(ids), list(refused)) == ({}, ["ids"], ["error"])
