"""Push the teacher's view to the room, and open it in the sessions of those who follow."""

import streamlit as st

from pages.common import opening, session
from pages.frame.room import member, push
from pages.frame.room.rooms import View
from pages.learn.lessons import walk


def follow() -> None:
    """Open the teacher's view if it is new to a student who follows. Call it before any widget, on each script run."""
    ours = member.of_session()
    if ours is None:
        return
    ours.seen = ours.room.version
    if ours.teaches or not ours.following:
        return
    wanted = ours.room.view
    if wanted is not None and wanted is not ours.view:
        ours.view = wanted
        values = dict(wanted.values)
        walk.follow({name: values.pop(name) for name in walk.IN_ADDRESS if name in values}, values)
        opening.open_view(wanted.page, values)


def lead() -> None:
    """Push the view on show, if the session is the teacher's and no run is going on; then wait for the next version.

    Call it at the end of each script run.
    """
    ours = member.of_session()
    if ours is None:
        return
    run = session.own_run()
    if ours.teaches and ours.leading and not (run is not None and run.waiting):
        page, values = opening.current_view()
        ours.room.push(View(page, values | walk.address()))
        ours.seen = ours.room.version
    with st.sidebar:
        push.watch(ours)


def stop_following() -> None:
    """Let the student look around alone. A callback."""
    ours = member.of_session()
    if ours is not None:
        ours.following = False


def follow_again() -> None:
    """Go back to the teacher's view. A callback."""
    ours = member.of_session()
    if ours is not None:
        ours.following, ours.view = True, None
