"""HTML and SVG elements as text. Every attribute value and every text passes `html.escape` here."""

import html
import itertools
import re
from collections.abc import Collection, Iterable, Sequence

from viz.tokens import visible

# Characters that an attribute name may hold; names come from this program, so this is a check of the programmer.
_NAME = re.compile("[a-z][a-zA-Z0-9-]*")


def element(tag: str, *inside: str, **attributes: object) -> str:
    """Return an element. `inside` is HTML already; the values of attributes are escaped.

    In names of attributes `_` stands for `-`, and a final `_` is dropped (`class_`). A value of None leaves the
    attribute out; a float is written with up to five significant digits.

    >>> element("b", text("<x>"), class_="a&b", data_n=0.5)
    '<b class="a&amp;b" data-n="0.5">&lt;x&gt;</b>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value is not None)
    return f"<{tag}{written}>{''.join(inside)}</{tag}>"


def void(tag: str, **attributes: object) -> str:
    """Return an element of HTML that has no content, such as `meta`."""
    return element(tag, **attributes).removesuffix(f"</{tag}>")


def _attribute(name: str, value: object) -> str:
    written = name.removesuffix("_").replace("_", "-")
    assert _NAME.fullmatch(written), written
    return f' {written}="{html.escape(number(value) if isinstance(value, float) else str(value), quote=True)}"'


def number(value: float) -> str:
    """Return a number with up to five significant digits, as SVG reads it."""
    return f"{value:.5g}"


def text(value: object, max_characters: int | None = None) -> str:
    r"""Return any text as HTML on one line; signs stand for invisible characters and for marks that reorder text.

    Args:
        value: the text, or an object that `str` converts.
        max_characters: a longer text is cut off here, with `…`; None: no limit.

    >>> text("a\u202eb <i>\n", 5)
    'a\\u202eb &lt;…'
    """
    return html.escape(plain(value, max_characters), quote=True)


def plain(value: object, max_characters: int | None = None) -> str:
    """Return what `text` returns before it is escaped, for the value of an attribute."""
    words = str(value)
    cut = max_characters is not None and len(words) > max_characters
    shown = " ".join(visible(word.encode("utf-8", "surrogatepass")) for word in words[:max_characters].split())
    return f"{shown}…" if cut else shown


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    kind: str | None = None,
    of_text: Collection[str] = (),
    ids: Iterable[str] | None = None,
) -> str:
    """Return a table, which scrolls inside itself where it is too wide.

    Args:
        header: names of the columns, plain text.
        rows: cells of each row, HTML already.
        kind: CSS class of the table.
        of_text: names of the columns that hold text; others hold numbers, which stand at the right.
        ids: id of each row, for links; None: rows have none.
    """
    classes = ["text" if name in of_text else None for name in header]
    head = "".join(
        element("th", text(name), scope="col", class_=css) for name, css in zip(header, classes, strict=True)
    )
    body = "".join(
        element("tr", *(element("td", cell, class_=css) for cell, css in zip(row, classes, strict=True)), id=row_id)
        for row, row_id in zip(rows, itertools.repeat(None) if ids is None else ids, strict=ids is not None)
    )
    inside = element("table", element("thead", element("tr", head)), element("tbody", body), class_=kind)
    return element("div", inside, class_="scroll", tabindex=0, role="group", aria_label=f"Table: {', '.join(header)}")
