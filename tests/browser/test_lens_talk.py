"""Lens and page agree on the view, whichever speaks last and however late the other hears it; the lens stays alive."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from viz import lens as source

pytestmark = pytest.mark.browser
TALK = (Path(source.__file__).parent / "talk.js").read_text(encoding="utf-8")
# Runs the steps with a clock that only `pass` moves, and returns what each step returns.
PLAY = f"""(steps) => {{
  let due = null, busy = false;
  const setTimeout = (act) => {{ due = act; }}, clearTimeout = () => {{ due = null; }};
  {TALK}
  const talk = new Talk(), view = {{ ...FRESH }}, reports = [];
  talk.report = (_, report) => reports.push(report);
  const act = {{
    page: (message) => {{ const asked = talk.requests(message); Object.assign(view, asked); return asked; }},
    choose: (choice) => {{ Object.assign(view, choice); talk.choose(Object.keys(choice), view, () => busy); }},
    busy: (now) => {{ busy = now; }},
    pass: () => {{ const act = due; due = null; act?.(); return reports.splice(0); }},
    leave: () => talk.leave(),
  }};
  return steps.map(([name, value]) => act[name](value) ?? null);
}}"""


@pytest.fixture(scope="module")
def play(chromium: Browser) -> Any:
    page = chromium.new_page()
    yield lambda *steps: page.evaluate(PLAY, steps)
    page.close()


def test_page_requests_what_it_changes(play: Any) -> None:
    messages = ({"layer": 1, "token": None}, {"layer": 1, "token": 4}, {"layer": 2, "token": None})
    assert play(*[["page", message] for message in messages]) == [
        {"layer": 1}, {"token": 4}, {"layer": 2, "token": None},
    ]  # fmt: skip


def test_choice_outlives_every_message_that_the_page_sent_before_it_knew(play: Any) -> None:
    old, new = {"layer": 1, "token": None, "report": None}, {"layer": 3, "token": None, "report": 1}
    answers = play(
        ["choose", {"layer": 3}],
        ["page", old],  # while the choice waits to be reported
        ["pass", None],
        ["page", old],  # while the report is on its way
        ["page", old | {"token": 7}],
        ["page", new],
        ["page", new | {"layer": 2}],
    )
    assert answers == [None, {}, [{"layer": 3, "report": 1}], {}, {"token": 7}, {"token": None}, {"layer": 2}]


def test_choice_made_while_busy_is_reported_afterwards(play: Any) -> None:
    steps = (["busy", True], ["choose", {"layer": 3}], ["pass", None], ["pass", None], ["busy", False], ["pass", None])
    assert play(*steps)[2:] == [[], [], None, [{"layer": 3, "report": 1}]]


def test_page_need_not_know_a_choice(play: Any) -> None:
    steps = (["page", {"layer": 2}], ["choose", {"layer": 0}], ["pass", None], ["page", {"layer": 1, "report": 1}])
    assert play(*steps)[-1] == {}
    assert play(*steps, ["page", {"layer": 4, "report": 1}])[-1] == {"layer": 4}


def test_report_repeats_the_choices_without_an_answer(play: Any) -> None:
    steps = (["choose", {"layer": 3}], ["pass", None], ["choose", {"token": 5}], ["pass", None])
    assert play(*steps)[-1] == [{"layer": 3, "token": 5, "report": 2}]
    first = ["page", {"layer": 3, "token": None, "report": 1}]
    assert play(*steps[:3], first, ["pass", None])[-2:] == [{}, [{"token": 5, "report": 2}]]


def test_choice_that_the_page_already_has_is_reported_again_after_the_page_changed_it(play: Any) -> None:
    steps = (["choose", {"layer": 3}], ["pass", None], ["page", {"layer": 3, "report": 1}])
    steps += (["page", {"layer": 4, "report": 1}], ["choose", {"layer": 3}], ["pass", None])
    assert play(*steps)[-1] == [{"layer": 3, "report": 2}]


def test_page_counts_where_the_lens_left_before_an_answer(play: Any) -> None:
    steps = (["page", {"layer": 1}], ["choose", {"layer": 3}], ["leave", None], ["pass", None], ["page", {"layer": 1}])
    assert play(*steps)[-2:] == [[], {"layer": 1}]


LENS = "\n".join((Path(source.__file__).parent / name).read_text(encoding="utf-8") for name in ("talk.js", "lens.js"))
# Mounts a lens without plots. `calls` are calls of the component (its data), and of the cleanup that a call returned
# (the number of the call).
MOUNT = f"""(calls) => {{
  const Strip = class {{ constructor(box) {{ this.box = box; }} }}, Plot = class {{}}, Twin = class {{}};
  const [RouterMap, AttentionMap, LoadBars] = [Plot, Plot, Plot];
  {LENS.replace("export default function", "const mount = function")}
  Lens.prototype.listen = function () {{ this.stop = new AbortController(); }};
  Lens.prototype.receive = function (data) {{ this.data = data; }};
  const parent = document.createElement('div'), cleanups = [];
  parent.innerHTML = '<i class="strip"></i>';
  for (const call of calls) {{
    if (typeof call === 'number') cleanups[call]();
    else cleanups.push(mount({{ data: call, parentElement: parent, setStateValue: null }}));
  }}
  const lens = INSTANCES.get(parent);
  return lens ? [lens.data, lens.stop.signal.aborted] : null;
}}"""


@pytest.mark.parametrize(
    ("calls", "lens"),
    [
        (["first", "second"], ["second", False]),
        (["first", 0, "second"], ["second", False]),  # Streamlit cleans up after the first call before the second
        (["first", "second", 0], ["second", False]),  # or after it
        (["first", "second", 1], None),  # the page takes the lens away
    ],
)
def test_cleanup_of_an_overtaken_call_leaves_the_lens_alive(chromium: Browser, calls: list, lens: list | None) -> None:
    page = chromium.new_page()
    assert page.evaluate(MOUNT, calls) == lens
    page.close()
