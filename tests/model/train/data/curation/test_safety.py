"""Labels by hand, both ways."""

import pytest

from model.train.data.curation.safety import LABELS, labels

FOUND = {
    "e-mail address": "Write to bob.smith@example.com today.",
    "phone-like number": "Call (555) 123-4567 or +1 555-123-4567.",
    "IP address": "The server is at 192.168.10.12, port 80.",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMII",
    "access token": f"token: ghp_{'a1B2' * 9}",
    "weapons and self-harm": "A firearm, its ammunition and explosives.",
}
NOT_FOUND = (
    "The decorator @property and a@b.",
    "From 2018-02-12 to 2018-02-19, 1,234,567 people; 555 1234; 3.141 592 6535.",
    "Version 1.2.3, section 4.5.6.7.8, 127.0.0.1 and 0.0.0.0.",
    "-----BEGIN PUBLIC KEY-----",
    "task-based work, ghp_ and sk-learn",
    "The firearm was old.",
)


def test_every_label_has_an_example() -> None:
    assert [label.name for label in LABELS] == list(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_label_is_given(name: str) -> None:
    assert list(labels(FOUND[name])) == [name]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_has_no_label(text: str) -> None:
    assert labels(text) == {}


def test_matches_are_counted() -> None:
    assert labels("a@example.org b@example.org") == {"e-mail address": 2}
    assert labels(FOUND["phone-like number"]) == {"phone-like number": 2}
