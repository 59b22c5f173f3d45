"""Tokens that join punctuation and line breaks are split for a share of their occurrences, and the text stays."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from model.train.data.boundaries import JoinedTokens
from model.train.data.bpe import train_vocabulary
from model.train.data.corpus import CorpusError

TEXT = "One.\nTwo.\n\nf(x);\n}\n Three!\n« four »\nsay:\n"
TOKENIZER: tokenizers.Tokenizer = train_vocabulary([TEXT] * 50, 420, show_progress=False)
JOINED = JoinedTokens(TOKENIZER)


def encode(text: str) -> np.ndarray:
    return np.array(TOKENIZER.encode(text, add_special_tokens=False).ids, np.uint16)


def test_vocabulary_is_searched_for_punctuation_with_line_breaks() -> None:
    found = {TOKENIZER.decode([index]) for index in JOINED.parts}
    assert {".\n", ");\n"} <= found
    assert all(text.strip("\n").strip(" ") and text.endswith("\n") for text in found)
    for index, (left, right) in JOINED.parts.items():
        assert TOKENIZER.decode([left]) + TOKENIZER.decode([right]) == TOKENIZER.decode([index])


def test_all_are_split_with_share_one_and_none_with_zero() -> None:
    ids = encode(TEXT)
    joined = int(np.isin(ids, list(JOINED.parts)).sum())
    assert joined > 3
    split = JOINED.split(ids, 1.0, np.random.default_rng(0))
    assert len(split) == len(ids) + joined
    assert split.dtype == ids.dtype
    assert not np.isin(split, list(JOINED.parts)).any()
    assert JOINED.split(ids, 0.0, np.random.default_rng(0)).tolist() == ids.tolist()


def test_share_is_kept_on_average() -> None:
    ids = np.tile(encode(".\n"), 4000)
    assert len(ids) == 4000
    split = JOINED.split(ids, 0.25, np.random.default_rng(3))
    assert 900 < len(split) - len(ids) < 1100


@given(st.text(alphabet="One.\n;!» (){}é", max_size=80), st.floats(0, 1), st.integers(0, 99))
def test_text_stays_the_same(text: str, share: float, seed: int) -> None:
    ids = encode(text)
    split = JOINED.split(ids, share, np.random.default_rng(seed))
    assert TOKENIZER.decode(split.tolist()) == text
    assert split.tolist() == JOINED.split(ids, share, np.random.default_rng(seed)).tolist()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_share_outside_is_refused(share: float) -> None:
    with pytest.raises(CorpusError, match="from 0 to 1"):
        JOINED.split(encode(TEXT), share, np.random.default_rng(0))
