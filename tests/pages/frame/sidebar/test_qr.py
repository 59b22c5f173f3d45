import re
from xml.etree import ElementTree

import pytest

from pages.frame.sidebar import qr

SVG = "{http://www.w3.org/2000/svg}"
Modules = list[list[bool]]  # rows of modules, True where dark
URL = "http://192.168.0.17:8501/?room=KESTREL"  # 38 bytes: version 3, one block of codewords


def modules(svg: str) -> tuple[int, Modules]:
    """Return the quiet zone's width and the modules inside it, from the drawn lines of an SVG."""
    root = ElementTree.fromstring(svg)
    (_, _, size, height), (line,) = map(int, root.attrib["viewBox"].split()), [p for p in root if "stroke" in p.attrib]
    assert size == height
    rows, x, y = [[False] * size for _ in range(size)], 0, 0
    for name, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", line.attrib["d"]):
        if name == "h":
            rows[y][x : x + int(first)] = [True] * int(first)
            x += int(first)
        else:
            x, y = (int(first), int(float(second))) if name == "M" else (x + int(first), y + int(second))
    quiet = min(y for y, row in enumerate(rows) if any(row))
    inner = [row[quiet : size - quiet] for row in rows[quiet : size - quiet]]
    assert sum(map(sum, rows)) == sum(map(sum, inner))  # no dark module in the quiet zone
    return quiet, inner


MASKS = [
    lambda y, x: (y + x) % 2,
    lambda y, x: y % 2,
    lambda y, x: x % 3,
    lambda y, x: (y + x) % 3,
    lambda y, x: (y // 2 + x // 3) % 2,
    lambda y, x: y * x % 2 + y * x % 3,
    lambda y, x: (y * x % 2 + y * x % 3) % 2,
    lambda y, x: ((y + x) % 2 + y * x % 3) % 2,
]


def is_pattern(y: int, x: int, size: int) -> bool:
    """Return whether a module of versions 2 to 6 belongs to a finder, timing, alignment or format pattern."""
    finder = (y < 9 and (x < 9 or x >= size - 8)) or (y >= size - 8 and x < 9)
    return finder or 6 in (x, y) or (abs(y - size + 7) <= 2 and abs(x - size + 7) <= 2)


def decode(rows: Modules) -> str:
    """Return the text of a code of version 2 to 5 and one block of codewords, in byte mode (ISO/IEC 18004)."""
    size = len(rows)
    mask = MASKS[sum((rows[8][x] ^ bit) << 4 - x for x, bit in zip((2, 3, 4), (1, 0, 1), strict=True))]
    bits = ""
    for turn, right in enumerate([*range(size - 1, 6, -2), *range(5, 0, -2)]):
        for y in range(size)[:: 1 if turn % 2 else -1]:
            for x in (right, right - 1):
                if not is_pattern(y, x, size):
                    bits += str(int(rows[y][x] ^ (mask(y, x) == 0)))
    assert bits[:4] == "0100"
    number = int(bits[4:12], 2)
    return bytes(int(bits[at : at + 8], 2) for at in range(12, 12 + 8 * number, 8)).decode()


@pytest.mark.parametrize("url", [URL, "http://a.example/?prompt=caf\u00e9", "https://b.example:8501/routing?token=7"])
def test_code_holds_the_address(url: str) -> None:
    quiet, rows = modules(qr.svg(url, 300))
    assert quiet == 4
    assert decode(rows) == url


def test_code_is_black_on_white_in_the_given_size() -> None:
    root = ElementTree.fromstring(qr.svg(URL, 640))
    assert (root.attrib["width"], root.attrib["height"], root.attrib["role"]) == ("640", "640", "img")
    assert [part.attrib.get("fill") or part.attrib.get("stroke") for part in root if part.tag == f"{SVG}path"] == [
        *("#fff", "#000"),
    ]
    assert root.findtext(f"{SVG}title") == "QR code"


@pytest.mark.parametrize("url", ["", "h" * (qr.MOST_BYTES + 1)])
def test_address_that_no_phone_would_read_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=f"has {len(url):,} bytes; a QR code here holds 1 to 1,200"):
        qr.svg(url, 300)


def test_longest_address_fits() -> None:
    _, rows = modules(qr.svg("h" * qr.MOST_BYTES, 300))
    assert len(rows) == 125 - 8
