"""Tell the browsers of a class that their room has changed.

Each browser in a room holds a WebSocket to the server, beside Streamlit's own. The server sends the room's version over
it, and nothing else. A new version makes the browser rerun the page, which then follows the teacher. Between two
versions nobody computes anything: a fragment that asks every second costs 40 followers 13 % of a core.
"""

import asyncio
import contextlib

import streamlit as st
from starlette.datastructures import URL
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.components.v2 import component
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from pages.frame.room import rooms
from pages.frame.room.member import Member
from pages.frame.room.rooms import RoomError

PATH = "room-versions"
REFUSED, LATER = 1008, 1013  # WebSocket close codes: the server refuses; try again later
OVER = -1  # sent in place of a version: the room is closed, or there is none
JS = """
// One connection per tab, whichever page is open.
let socket = null, address = null, version = null, seen = null, notify = null, timer = null, asked = -Infinity;
const RETRY_MS = 2000, PATIENCE_MS = 5000, SETTLE_MS = 20;

// Ask for one rerun at a time: the next one would end it.
function compare() {
  clearTimeout(timer);
  if (version === null || version === seen) return;
  const wait = asked + PATIENCE_MS - performance.now();
  if (wait <= 0) {
    asked = performance.now();
    notify('version', version);
  }
  timer = setTimeout(compare, Math.max(wait, SETTLE_MS));
}

function connect() {
  if (!address) return;
  const opened = socket = new WebSocket(address);
  opened.onmessage = (event) => {
    if (opened !== socket) return;
    version = Number(event.data);
    compare();
  };
  // A phone that wakes up finds the connection closed.
  opened.onclose = (event) => {
    if (opened === socket && event.code !== 1008) setTimeout(() => opened === socket && connect(), RETRY_MS);
  };
}

export default function ({ data, setTriggerValue }) {
  [notify, seen, asked] = [setTriggerValue, data.seen, -Infinity];
  timer = setTimeout(compare, SETTLE_MS);  // a trigger during the mount would be lost
  const base = new URL(document.baseURI);
  base.protocol = base.protocol.replace('http', 'ws');
  const wanted = new URL(data.path, base).href;
  if (wanted !== address) {
    socket?.close();
    [address, version] = [wanted, null];
    connect();
  }
  return () => {
    const left = socket;
    [socket, address] = [null, null];
    left?.close();
  };
}
"""
_COMPONENT = component("moe_loupe_room", html="<span></span>", js=JS)


def watch(member: Member) -> None:
    """Mount what reruns the page when the room changes; `member.seen` is the version that this run draws."""
    data = {"path": f"{PATH}/{member.room.code}", "seen": member.seen}
    _COMPONENT(key="room-watch", data=data, on_version_change=lambda: None, height=1)


async def _send_versions(socket: WebSocket) -> None:
    """Send the version of the room in the path, now and whenever it rises, until the room or the browser closes."""
    if not _is_own(socket):
        await socket.close(REFUSED)
        return
    await socket.accept()  # a browser does not see why a connection was refused before
    try:
        room = rooms.ROOMS.find(socket.path_params["code"])
    except RoomError:
        await socket.send_text(str(OVER))
        await socket.close(REFUSED)
        return
    code, loop, changed = LATER, asyncio.get_running_loop(), asyncio.Event()
    closed = asyncio.ensure_future(_wait_for_close(socket))

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the server is shutting down
            loop.call_soon_threadsafe(changed.set)

    try:
        room.listen(wake)
        code = REFUSED
        while room.open and not closed.done():
            next_version = asyncio.ensure_future(changed.wait())
            await asyncio.wait({next_version, closed}, timeout=room.seconds_left, return_when="FIRST_COMPLETED")
            next_version.cancel()
            changed.clear()
            await socket.send_text(str(room.version if room.open else OVER))
    except (RoomError, WebSocketDisconnect, RuntimeError):
        pass
    finally:
        room.unlisten(wake)
        closed.cancel()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(code)


def _is_own(socket: WebSocket) -> bool:
    """Return whether a page of this server opens the connection, or of an origin that the operator allows."""
    origin, host = socket.headers.get("origin"), socket.headers.get("host")
    if origin is None or URL(origin).netloc == host or not st.get_option("server.enableCORS"):
        return is_host_allowed(host)
    return origin in (st.get_option("server.corsAllowedOrigins") or ())


async def _wait_for_close(socket: WebSocket) -> None:
    """Return when the browser closes the connection, or sends anything, which no page of ours does."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.receive()


ROUTES = [WebSocketRoute(f"/{PATH}/{{code}}", _send_versions)]
