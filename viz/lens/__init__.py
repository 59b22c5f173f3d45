"""The lens: linked views of one run. Pointing at a token or expert marks it in the text, routing, attention and load.

The browser does this without a request to the server.

HTML, CSS and script are plain strings. The Streamlit component that mounts them passes messages packed by
`viz.lens.wire`.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent
HTML = (_FOLDER / "lens.html").read_text(encoding="utf-8")
CSS = (_FOLDER / "lens.css").read_text(encoding="utf-8")
# The files are joined, because a component takes one script; later files use definitions of earlier ones.
_PARTS = (
    "decode.js",
    "text.js",
    "draw.js",
    "save.js",
    "strip.js",
    "panels.js",
    "words.js",
    "twin.js",
    "talk.js",
    "keys.js",
    "lens.js",
)
JS = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _PARTS)
