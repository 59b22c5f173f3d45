from pages.common.text import visible


def test_white_space_is_visible() -> None:
    assert visible(b" a\tb\r\n") == "·a→b␍⏎"


def test_bytes_that_are_no_characters_are_told_as_bytes() -> None:
    assert visible("é".encode()[:1]) == "<0xC3>"
    assert visible(b"ok\xff") == "ok<0xFF>"


def test_direction_marks_and_controls_are_told_as_bytes() -> None:
    assert visible("a\u202eb".encode()) == "a<0xE2><0x80><0xAE>b"
    assert visible(b"\x00") == "<0x00>"


def test_markup_stays_text() -> None:
    assert visible(b"<script>") == "<script>"
