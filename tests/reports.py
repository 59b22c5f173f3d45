"""Read a report, or a figure of it, as a browser would: elements with attributes and text, and the cells of maps."""

import base64
import struct
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np

VOID = {"meta", "br"}


@dataclass
class Element:
    """One element: `text` is its own text, without that of elements inside."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list["Element"] = field(default_factory=list)

    def data(self, name: str) -> str:
        return self.attributes[f"data-{name}"]

    @property
    def whole_text(self) -> str:
        return self.text + "".join(element.whole_text for element in self.inside)


class Reader(HTMLParser):
    """All elements of an HTML text in order; fails if they are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = [Element("root", {})]
        self.feed(html)
        self.close()
        assert [element.tag for element in self.open] == ["root"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements with this tag and these attributes; an attribute `data_x` is `data-x`, `class_` is a word."""
        return [element for element in self.elements if element.tag == tag and _has(element, attributes)]

    def with_data(self, name: str) -> list[Element]:
        return [element for element in self.elements if f"data-{name}" in element.attributes]

    def figure(self, kind: str) -> Element:
        (found,) = self.all("div", id=f"figure-{kind}")
        return found.inside[0]


def _has(element: Element, attributes: dict[str, str]) -> bool:
    for name, value in attributes.items():
        written = element.attributes.get(name.rstrip("_").replace("_", "-"))
        if written is None or (value not in written.split() if name == "class_" else value != written):
            return False
    return True


def cells(image: Element) -> np.ndarray:
    """The palette entries of a map, [row, column] uint8, read as the PNG specification says."""
    content = base64.b64decode(image.attributes["href"].removeprefix("data:image/png;base64,"), validate=True)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + length
    width, height, depth, color, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, color) == (8, 3)
    assert list(chunks)[-1] == b"IEND"
    assert len(chunks[b"PLTE"]) == 3 * len(chunks[b"tRNS"]) == 3 * 65
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]
