"""Push the teacher's view to the room, and open it in the sessions of those who follow."""

import streamlit as st

from pages.common import opening, session
from pages.frame.room import member, push
from pages.frame.room.rooms import View
from pages.learn.lessons import walk


def follow() -> None:
    """Open the teacher's view if it is new to a student who follows. Call it before any widget, on each script run.

    A teacher who enters with nothing of her own on show, such as on another computer, gets the view of the class once.
    """
    ours = member.of_session()
    if ours is None:
        return
    ours.seen = ours.room.version
    if not ours.following or ours.teaches and (ours.view is not None or session.own_run() is not None):
        return
    wanted = ours.room.view
    if wanted is not None and wanted is not ours.view:
        ours.view = wanted
        values = dict(wanted.values)
        walk.follow({name: values.pop(name) for name in walk.IN_ADDRESS if name in values}, values)
        opening.open_view(wanted.page, values)


def lead() -> None:
    """Push the view on show, if it is the teacher's and has changed; then wait for the room's next version.

    Call it at the end of each script run. During a run of the teacher nothing is pushed. Of two sessions of a teacher,
    only the one that changes its view pushes, so they never answer each other.
    """
    ours = member.of_session()
    if ours is None:
        return
    run = session.own_run()
    if ours.teaches and ours.leading and not (run is not None and run.waiting):
        page, values = opening.current_view()
        view = View(page, values | walk.address())
        if view != ours.view:
            ours.view = view
            ours.room.push(view)
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
