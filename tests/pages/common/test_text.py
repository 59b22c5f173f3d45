import dataclasses
import re
import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from model.trace.file import save
from model.trace.trace import Token, Trace
from pages.common import text
from pages.common.menu import page_path
from tests.traces import random_trace
from viz.tokens import visible


class Vocabulary:
    """Three entries: a special token, a part of a character after white space, one without a name."""

    def token_bytes(self, token_id: int) -> bytes:
        return b" \t\xe2\x82" if token_id == 1 else b""

    def piece(self, token_id: int) -> str:
        return "<bos>" if token_id == 0 else ""


def test_tokens_are_named_by_their_text_their_entry_or_their_number() -> None:
    trace, spelled = random_trace(num_prompt=3, num_new=0), b" \xff<script>"
    end = len(spelled)
    tokens = (Token(0, "<bos>", 0, 0, False), Token(5, "x", 0, end, False), Token(7, "", end, end, True))
    data = trace.data.assign(token_id=("token", np.array([0, 5, 7], np.int32)))
    trace = dataclasses.replace(trace, data=data, tokens=tokens, text=spelled)
    assert [text.token(trace, index) for index in range(3)] == ["bos", "·\\xff<script>", "#7"]


def test_entries_of_the_vocabulary_look_as_tokens_do() -> None:
    vocabulary = Vocabulary()
    assert [text.entry(entry, vocabulary) for entry in range(3)] == ["bos", "·→\\xe2\\x82", "#2"]
    assert text.entry(1, vocabulary) == visible(vocabulary.token_bytes(1))
    assert text.entry(3, None) == "#3"


HOSTILE = {
    "![x](http://example.com/a.png)": "![x](http://example.com/a.png)",
    "[a](javascript:x)": "[a](javascript:x)",
    ":material/home: :smile: :red[x]": ":material/home: :smile: :red[x]",
    "$x$ `x` *x* _x_ ~~x~~": "$x$ `x` *x* _x_ ~~x~~",
    "<b>x</b> &amp;": "<b>x</b> &amp;",
    "a | b": "a | b",
    "# a\n- b\n\n> c": "# a - b > c",
    "a\u202eb\u2066c\x00": "a\\u202eb\\u2066c␀",
    "“é” — 狼": "“é” — 狼",
}


@pytest.mark.parametrize(("written", "read"), HOSTILE.items(), ids=ascii)
def test_foreign_text_says_only_itself(written: str, read: str) -> None:
    spelled = text.plain(written)
    assert re.sub(rf"\\([{re.escape(string.punctuation)}])", r"\1", spelled) == read  # as CommonMark reads escapes
    bare = re.sub(rf"\\[{re.escape(string.punctuation)}]", "", spelled)
    assert not set(bare) & set("![](){}<>:$`*_~|#-&/\\\n")
    assert text.plain(written, 1) == text.plain(written[0])


def test_refusal_is_a_sentence_of_plain_text() -> None:
    assert text.sentence(ValueError("the file a_b is empty")) == "The file a\\_b is empty."
    assert text.sentence("It is. ") == "It is."
    assert text.sentence("config.json: no_such is not known") == "config.json\\: no\\_such is not known."
    assert text.sentence("bias: is NaN") == "bias\\: is NaN."  # a name, as its colon says
    assert text.sentence("rope_scaling lacks factor") == "rope\\_scaling lacks factor."
    assert text.sentence("![x](y)") == "\\!\\[x\\]\\(y\\)."


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("record it with `--capture inputs`, a_b", "record it with `--capture inputs`, a\\_b"),
        ("`![x](y)`", "`![x](y)`"),
        ("a ` b", "a \\` b"),
        ("``![x](y)``", "\\`\\`\\!\\[x\\]\\(y\\)\\`\\`"),
        ("`a\n\nb`", "`a b`"),
    ],
)
def test_message_keeps_code_spans_and_nothing_else(said: str, written: str) -> None:
    assert text.message(said) == written


IMAGE = "![x](http://example.com/a.png)"
OF_A_RUN = [
    "explore", "routing", "expert_load", "attention", "sparse_attention", "tokens", "counterfactual", "imports",
]  # fmt: skip


def hostile(imported: bool) -> Trace:
    """Return a trace with a Markdown image in every text that a page may show."""
    random = random_trace()
    stated = {"kind": IMAGE, "engine": IMAGE, "device": IMAGE, "dtype": IMAGE}
    if imported:
        stated |= {"kind": "imported", "format": IMAGE, "missing": {IMAGE: IMAGE}, "notes": [IMAGE]}
    return dataclasses.replace(
        random,
        tokens=(dataclasses.replace(random.tokens[0], piece=IMAGE), *random.tokens[1:]),
        model=random.model | {"name": IMAGE},
        origin=random.origin | stated,
        request=random.request | {"interventions": [{"kind": "ScoreThreshold", "threshold": IMAGE, "layer": 1}]},
    )


def as_markdown(app: AppTest) -> list[str]:
    """Every string of the elements whose text is Markdown, without its code spans."""
    assert not app.exception
    kinds = ("markdown", "caption", "info", "error", "warning", "metric", "button", "page_link", "expander")
    elements = [element for kind in kinds for element in app.get(kind)]
    strings = [value for element in elements for _, value in element.proto.ListFields() if isinstance(value, str)]
    return [re.sub(r"(`+).*?\1", "", value) for value in strings]


@pytest.mark.parametrize("imported", [False, True], ids=["measured", "imported"])
@pytest.mark.parametrize("page", OF_A_RUN)
def test_no_page_lets_a_trace_write_markdown(
    page: str, imported: bool, open_app: Callable[..., AppTest], recorded: Path
) -> None:
    save(hostile(imported), recorded / "story.safetensors")
    written = as_markdown(open_app(token="0").switch_page(page_path(page)).run())
    assert any(text.plain(IMAGE) in value for value in written)  # it is quoted
    assert not [value for value in written if IMAGE in value]


def test_experiment_lets_the_address_write_no_markdown(open_app: Callable[..., AppTest]) -> None:
    app = open_app().switch_page(page_path("counterfactual"))
    app.query_params["also"] = "![x](y)"
    written = as_markdown(app.run())
    assert any(text.plain("![x](y)") in value for value in written)
    assert not [value for value in written if "![x](y)" in value]


@pytest.mark.parametrize("piece", ["<b>", "a`b", "``", "*x*", ":smile:", "$1$", "->"])
def test_token_on_a_button_is_only_text(piece: str) -> None:
    code = text.as_code(piece)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert code.startswith(fence)
    assert code.endswith(fence)
    assert fence not in code[len(fence) : -len(fence)]
    assert code.strip("`").strip(" ") == piece.strip("`") or piece == "``"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("A wolf", "“A wolf”"),
        ("Once upon a time there was a wolf who ran", "“Once upon a time there was a wolf who…”"),
        ("![x](y)\n\nand", r"“\!\[x\]\(y\) and”"),
        ("森" * 50, f"“{'森' * 40}…”"),
        ("", "10 tokens"),
    ],
)
def test_first_words_name_a_trace(words: str, expected: str) -> None:
    trace = SimpleNamespace(text=words.encode(), num_tokens=10)
    assert text.first_words(trace) == expected  # pyright: ignore[reportArgumentType]
