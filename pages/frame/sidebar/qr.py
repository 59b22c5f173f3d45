"""QR codes as SVG, which a phone reads from a projector."""

import base64

import segno

QUIET_MODULES = 4  # of white on each side (ISO/IEC 18004)
MOST_BYTES = 1_200  # of an address; the 125 modules a side of a longer one are too small for a phone


def svg(url: str, size_px: int) -> str:
    """Return the QR code of an address as an SVG image; `st.html` drops it.

    The modules are black on white in every theme, because some readers refuse an inverted code. The code has the fewest
    modules that hold the address, and the most error correction that they leave room for.

    Args:
        url: address, encoded as UTF-8.
        size_px: width and height with the quiet zone, in CSS pixels.

    Raises:
        ValueError: the address is empty or has more than `MOST_BYTES` bytes.
    """
    number = len(url.encode())
    if not 0 < number <= MOST_BYTES:
        raise ValueError(f"the address has {number:,} bytes; a QR code here holds 1 to {MOST_BYTES:,}")
    code = segno.make_qr(url, error="l", encoding="utf-8")
    image = code.svg_inline(
        border=QUIET_MODULES, dark="#000", light="#fff", title="QR code", omitsize=True, svgclass=None, lineclass=None
    )
    size = f'width="{size_px}" height="{size_px}" role="img" shape-rendering="crispEdges"'
    return image.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" {size}', 1)


def image(url: str, size_px: int) -> str:
    """Return HTML for `st.html` with the QR code as an image that has a name, which `st.image` cannot give it.

    Raises:
        ValueError: see `svg`.
    """
    code = base64.b64encode(svg(url, size_px).encode()).decode()
    return f'<img alt="QR code of the link" style="width: 100%" src="data:image/svg+xml;base64,{code}">'
