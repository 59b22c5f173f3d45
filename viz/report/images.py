"""Maps of many cells as PNG data URIs, one per theme: the page shows the one of the reader's theme.

A PNG here has a palette: one byte per cell, colours of a scale, and a transparent entry for unknown cells.
"""

import base64
import struct
import zlib

import numpy as np

from viz.report.markup import element
from viz.theme import DARK, LIGHT, blend

NUM_SHADES = 64
Scales = tuple[tuple[str, ...], tuple[str, ...]]
UNKNOWN = NUM_SHADES  # entry of the palette for cells without a value, transparent


def shades(share: np.ndarray) -> np.ndarray:
    """Return the palette entries, uint8, of values from 0 to 1; values outside are clipped, NaN becomes `UNKNOWN`."""
    clipped = np.clip(np.nan_to_num(share, nan=0.0), 0, 1)
    return np.where(np.isnan(share), UNKNOWN, np.rint(clipped * (NUM_SHADES - 1))).astype(np.uint8)


def map_image(entries: np.ndarray, scales: Scales, x: float, y: float, width: float, height: float) -> str:
    """Return the SVG images of a map for both themes; the first row is at the top.

    Args:
        entries: palette entries from `shades`, [row, column].
        scales: hex stops of the colour scale in the light and the dark theme.
        x: left end of the map in the figure.
        y: upper end.
        width: width in the figure.
        height: height in the figure.
    """
    if not entries.size:
        return ""
    frame = {"x": x, "y": y, "width": width, "height": height, "preserveAspectRatio": "none"}
    return "".join(
        element("image", class_=f"map {theme.name}", href=data_uri(entries, stops), **frame)
        for theme, stops in zip((LIGHT, DARK), scales, strict=True)
    )


def data_uri(entries: np.ndarray, stops: tuple[str, ...]) -> str:
    """Return a PNG of palette entries [row, column] as a data URI; `stops` are the hex stops of its colour scale."""
    return f"data:image/png;base64,{base64.b64encode(png(entries, stops)).decode()}"


def png(entries: np.ndarray, stops: tuple[str, ...]) -> bytes:
    """Return the bytes of a PNG with a palette; see `data_uri`.

    Source: Portable Network Graphics (W3C, third edition), chunks IHDR, PLTE, tRNS, IDAT and IEND.
    """
    height, width = entries.shape
    colors = [blend(stops, index / (NUM_SHADES - 1)) for index in range(NUM_SHADES)]
    palette = b"".join(bytes.fromhex(color[1:]) for color in colors) + bytes(3)
    opacity = bytes([255] * NUM_SHADES + [0])
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = entries
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = {
        b"IHDR": header,
        b"PLTE": palette,
        b"tRNS": opacity,
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks.items())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
