"""Draw how many students gave each answer, with the right answer marked once it is shown."""

import html
from collections.abc import Collection, Mapping

import streamlit as st

from pages.common import session
from pages.frame.room.member import Member

SECONDS_BETWEEN_COUNTS = 1.0
MOST_ROWS = 40
_STYLE = (
    "<style>.room-answers { width: 100%; border-collapse: collapse; font-size: 1rem; } .room-answers * { border: none; "
    "text-align: left; padding: 2px 8px 2px 0; } .room-answers th { font-weight: 400; white-space: nowrap; width: 1%; "
    "font-family: monospace; } .room-answers .right th { font-weight: 700; } .room-answers i { display: block; height: "
    "1.1em; border-radius: 2px; padding: 0; } .room-answers td + td { width: 1%; white-space: nowrap; "
    "}</style>"
)


def show(ours: Member, question: str, options: Collection[str], truth: Collection[str]) -> None:
    """Draw the answers to a question; those of an open question are counted anew every second.

    Args:
        ours: a member of the room.
        question: id of the question.
        options: answers in the order of the rows; an answer that is no option gets a row below.
        truth: the right answers, which are marked if the teacher has revealed them.
    """
    if ours.revealed(question):
        _draw(ours, question, options, truth)
    else:
        st.fragment(_draw, run_every=SECONDS_BETWEEN_COUNTS)(ours, question, options, ())


def _draw(ours: Member, question: str, options: Collection[str], truth: Collection[str]) -> None:
    counts, colours = ours.counts(question), session.theme()
    number = sum(counts.values())
    st.html(_STYLE + rows(counts, options, truth, (colours.muted, colours.ink)))
    st.caption(f"{number} answer{'s' * (number != 1)} of {ours.num_students} student{'s' * (ours.num_students != 1)}")


def rows(counts: Mapping[str, int], options: Collection[str], truth: Collection[str], colours: tuple[str, str]) -> str:
    """Return an HTML table with a bar per answer.

    Args:
        counts: number of students by answer.
        options: answers in the order of the rows. If they are more than `MOST_ROWS`, only those that were given or are
            right get a row.
        truth: the right answers, which are marked.
        colours: of the bar of any answer, and of a right one.
    """
    listed = list(dict.fromkeys([*options, *sorted(truth), *counts]))
    if len(listed) > MOST_ROWS:
        listed = [answer for answer in listed if counts.get(answer) or answer in truth][:MOST_ROWS]
    most = max([1, *counts.values()])
    drawn = [_row(answer, counts.get(answer, 0), most, answer in truth, colours) for answer in listed]
    return f'<table class="room-answers">{"".join(drawn)}</table>'


def _row(answer: str, number: int, most: int, right: bool, colours: tuple[str, str]) -> str:
    width = f"width: {100 * number / most:.0f}%; background: {colours[right]}"
    mark = "\N{CHECK MARK} right" if right else ""
    return (
        f'<tr class="{"right" if right else "other"}"><th scope="row">{html.escape(answer)}</th>'
        f'<td><i style="{width}"></i></td><td>{number}</td><td>{mark}</td></tr>'
    )
