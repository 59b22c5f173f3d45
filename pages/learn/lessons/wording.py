"""Texts of lessons as Markdown. Of what a file holds, only `code` and *emphasis* become markup."""

import re

from pages.common import text


def markdown(words: str) -> str:
    r"""Return a text of a lesson as Markdown on one line.

    >>> markdown("*Look* at `x`, 2 * 3 <b> ![a](b)")
    '*Look* at `x`, 2 \\* 3 \\<b\\> \\!\\[a\\]\\(b\\)'
    """
    parts = re.split(
        r"(`[^`\n]+`|(?<![\w*])\*(?=[^\s*])[^*`\n]*[^\s*`]\*(?![\w*])|(?<![\w*])\*[^\s*`]\*(?![\w*]))", words
    )
    return "".join(_part(part, index % 2 == 1) for index, part in enumerate(parts))


def _part(part: str, is_markup: bool) -> str:
    lead, tail = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    if is_markup and part.startswith("`"):
        return text.as_code(part[1:-1])
    if is_markup:
        return f"*{text.plain(part[1:-1])}*"
    return f"{' ' if lead else ''}{text.plain(part)}{' ' if tail and part.strip() else ''}"
