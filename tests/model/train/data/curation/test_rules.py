"""Every rule by hand: a text that it drops, and one that only looks like it."""

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train.data.curation.features import Text
from model.train.data.curation.rules import RULES, first_broken, verdicts

PROSE = (
    "The ferryman tied his boat to the old willow and looked at the sky.\nThere would be rain before evening, so he "
    "carried the oars under the roof.\nHis daughter had lit the stove; soup was waiting, and so was a letter."
)
CODE = "def add(left, right):\n    return left + right\n\n\ndef double(value):\n    return add(value, value)\n"
BASE64 = base64.encodebytes(random.Random(0).randbytes(600)).decode()
LOCK = '[[package]]\nname = "serde"\nversion = "1.0.1"\nsource = "registry+index"\nchecksum = "ab12"\n'
MINIFIED = "!function(t,n){var r=n(1),e=n(2);t.exports={a:r,b:e,c:function(t){return r(t)?e[t]:null}}}(this,{});" * 4
DROPPED = {
    "too short": "Read on.",
    "wrong encoding": "Il Ã©tait une fois un roi trÃ¨s Ã¢gÃ© qui vivait dans un chÃ¢teau.",
    "number table": "12,5,881\n4,19,23\n7,7,102\n3.5,8,1\n",
    "encoded binary": BASE64,
    "lock file": LOCK * 3,
    "minified code": MINIFIED,
    "markup": "<p>The <b>old</b> king &amp; his <i>son</i></p>\n<p>lived in a castle by the sea.</p>",
    "Markdown": "See [the guide](guide.md) first.\n> A note on it.\n`run {{name}}`\nThen it is done.",
    "link list": "Links\nhttps://example.org/a/long/way\nhttps://example.org/another/way\nwww.example.org/third",
    "few letters": "== 12 == 34 == 56 == 78 == ** ++ a b c",
    "repeated lines": "A line that comes again and again.\n" * 3 + "Another line.",
    "repetition": "we went down to the sea to look for the ships and " * 4,
    "page boilerplate": f"Skip to content\n{PROSE}\nShare this: Print\nAll rights reserved",
    "change log": "4.2.1 / 2020-01-01\n- Fix a leak in the parser\n- deps: send@1.0\n- Add an option for colour\n",
    "scanning errors": "It wa5 a c0ld night and the 0ld h0use stood alone by the r1ver, its wind0ws dark.",
}
KEPT = {
    "too short": "A small fox ran over the hill.",
    "wrong encoding": "Il était une fois un roi très âgé; « À demain », dit-il. SÃO PAULO, Ñandú.",
    "number table": "In 1905, 12 ships came.\n34,5 people saw 7 of them.\n1, 2, 3\n",
    "encoded binary": "See src/model/train/curation/measures.py or https://example.org/a/very/long/address/of/a/page",
    "lock file": "Version 1.0 came in spring.\nA checksum is a short number.\nresolved to go, she went.",
    "minified code": PROSE.replace("\n", " ") * 2,
    "markup": "If a < b and c > d, then run <command> with <path/to/file>; AT&T; x << 2.",
    "Markdown": "# Title\n\n- first\n- second\n\nUse `code` in a sentence, and 2 * 3 * 4.\n",
    "link list": "The page at https://example.org says that the boat was tied to a willow and carried off.",
    "few letters": "Solve 11x + 14 = -8.\nSubtract 14 from both sides: 11x = -22\nAnswer: x = -2",
    "repeated lines": PROSE,
    "repetition": PROSE,
    "page boilerplate": f"{PROSE}\nHe read more than ever.\n" + "".join(f"Line {number}.\n" for number in range(9)),
    "change log": "Add the flour.\nFix the lid.\nUse a spoon.\n- Milk\n- Eggs, and 2.5 cups of sugar\n",
    "scanning errors": "Run md5sum on file1 and file2, with -1|--one or <a|b>; then borrow1 of the b5 keys in 1905.",
}


def value_of(name: str, text: str) -> tuple[bool, float | None]:
    verdict = next(verdict for verdict in verdicts(Text(text)) if verdict.rule.name == name)
    return verdict.keeps, verdict.value


def test_every_rule_has_both_examples() -> None:
    names = [rule.name for rule in RULES]
    assert names == list(DROPPED) == list(KEPT)
    assert all(rule.reason.endswith(".") for rule in RULES)


@pytest.mark.parametrize("name", DROPPED)
def test_rule_drops(name: str) -> None:
    keeps, value = value_of(name, DROPPED[name])
    assert not keeps, value
    broken = first_broken(Text(DROPPED[name]))
    assert broken is not None


@pytest.mark.parametrize("name", KEPT)
def test_rule_keeps_what_only_looks_like_it(name: str) -> None:
    keeps, value = value_of(name, KEPT[name])
    assert keeps, value


@pytest.mark.parametrize("text", [PROSE, CODE, "勿論候補者は必しもこれだけと言ふ訳ではありません。現に文書は多い。"])
def test_clean_text_breaks_nothing(text: str) -> None:
    assert first_broken(Text(text)) is None


def test_code_may_repeat_itself_and_hold_tags() -> None:
    text = "<ul>\n<li>\n</li>\n<li>\n</li>\n<li>\n</li>\n</ul>\n"
    assert first_broken(Text(text)) is not None
    assert first_broken(Text(text, is_code=True)) is None
    skipped = [verdict for verdict in verdicts(Text(text, is_code=True)) if verdict.value is None]
    assert len(skipped) == sum(not rule.for_code for rule in RULES)
    assert all(verdict.keeps for verdict in skipped)


@given(st.text(max_size=200), st.booleans())
def test_first_broken_rule_is_the_first_that_drops(text: str, is_code: bool) -> None:
    broken = first_broken(Text(text, is_code))
    dropping = [verdict.rule.name for verdict in verdicts(Text(text, is_code)) if not verdict.keeps]
    assert (broken.rule.name if broken else None) == (dropping[0] if dropping else None)


@given(st.text(max_size=300))
def test_shares_lie_between_nothing_and_all(text: str) -> None:
    for verdict in verdicts(Text(text)):
        assert verdict.value is not None
        assert verdict.value >= 0
        assert verdict.rule.unit != "share" or verdict.value <= 1
