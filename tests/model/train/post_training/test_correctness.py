"""Which answers count as right."""

import pytest

from model.train.post_training.correctness import judge, result_of, shares


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1 + 2 = 3\nAnswer: 3", "3"),
        ("Answer: 3\nno,\nAnswer: 4 remainder 1 \nso", "4 remainder 1"),
        ("That is 12.\nThe answer is 12.", "12"),
        ("12", None),
        ("Answer:", ""),
    ],
)
def test_result_is_what_the_last_mark_names(text: str, result: str | None) -> None:
    assert result_of(text) == result


@pytest.mark.parametrize(
    ("said", "wanted", "right", "exact"),
    [
        ("2 × 3 = 6\nAnswer: 6", "2 × 3 = 6\nAnswer: 6", True, True),
        ("Answer: 6", "2 × 3 = 6\nAnswer: 6", True, False),
        ("2 × 3 = 6\nAnswer: 60", "2 × 3 = 6\nAnswer: 6", False, False),
        ("6", "2 × 3 = 6\nAnswer: 6", False, False),
        (" ls -l\n", "ls -l", True, True),
        ("Answer: ls -l", "ls -l", False, False),
    ],
)
def test_verdicts(said: str, wanted: str, right: bool, exact: bool) -> None:
    assert judge("any", said, wanted)[1:] == (right, exact)


def test_shares_by_kind() -> None:
    verdicts = [judge("a", "1", "1"), judge("a", "2", "1"), judge("b", "Answer: 1", "x\nAnswer: 1")]
    found = shares(verdicts)
    assert found["a"] == {"right": 1, "of": 2, "exact": 1, "low": 0.0945, "high": 0.9055}
    assert found["b"] | {"low": 0, "high": 0} == {"right": 1, "of": 1, "exact": 0, "low": 0, "high": 0}
