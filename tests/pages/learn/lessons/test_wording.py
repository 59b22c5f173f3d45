from hypothesis import given, strategies

from pages.learn.lessons.wording import markdown


def test_only_code_and_emphasis_become_markup() -> None:
    assert markdown("A *strong* word, `x*y` and 2 * 3 * 4") == "A *strong* word, `x*y` and 2 \\* 3 \\* 4"
    assert markdown("**no** _no_ [a](b) <i> :red[x] $y$ # t") == (
        "\\*\\*no\\*\\* \\_no\\_ \\[a\\]\\(b\\) \\<i\\> \\:red\\[x\\] \\$y\\$ \\# t"
    )
    assert markdown("*![x](y)*") == "*\\!\\[x\\]\\(y\\)*"
    assert markdown("* item") == "\\* item"
    assert markdown("`code` first, last `code`") == "`code` first, last `code`"


@given(strategies.text(alphabet="`*[]()<>!a \n\\_:$", max_size=30))
def test_no_text_becomes_a_link_or_tag(words: str) -> None:
    outside = "".join(part for index, part in enumerate(markdown(words).split("`")) if index % 2 == 0)
    assert all(mark not in outside.replace(f"\\{mark}", "") for mark in "<[$")
