"""Numbers and layers in words."""

import pytest

from pages.learn.architecture.drawing import count, layers


@pytest.mark.parametrize(
    ("number", "spelled"),
    [(0, "0"), (999, "999"), (999_900, "1.00 M"), (12_345, "12.3 k"), (671_026_419_200, "671 B"), (1.2e12, "1.20 T")],
)
def test_numbers_have_three_digits(number: float, spelled: str) -> None:
    assert count(number) == spelled


def test_layers_in_words() -> None:
    assert layers(range(3, 61)) == "layers 3 to 60"
    assert layers(range(0, 40, 2)) == "layers 0, 2, 4, 6, …, 38"
