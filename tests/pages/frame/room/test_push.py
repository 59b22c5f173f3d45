"""The versions of a room over a WebSocket, with Starlette's own client."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pages.common import limits
from pages.frame.room import push, rooms
from pages.frame.room.rooms import Room, View


@pytest.fixture
def room() -> Iterator[Room]:
    room = rooms.ROOMS.open()
    yield room
    room.close()


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=push.ROUTES)) as client:
        yield client


def test_every_listener_gets_the_version_now_and_each_new_one(client: TestClient, room: Room) -> None:
    path = f"/{push.PATH}/{room.code}"
    with client.websocket_connect(path) as one, client.websocket_connect(path) as two:
        assert one.receive_text() == two.receive_text() == "0"
        room.push(View("routing", {}))
        assert one.receive_text() == two.receive_text() == "1"


def test_connection_ends_with_the_room_and_with_anything_that_is_sent(client: TestClient, room: Room) -> None:
    path = f"/{push.PATH}/{room.code}"
    with client.websocket_connect(path) as talker, client.websocket_connect(path) as listener:
        assert talker.receive_text() == "0"
        talker.send_text("x" * 10_000)
        with pytest.raises(WebSocketDisconnect):
            [talker.receive_text() for _ in range(3)]
        assert listener.receive_text() == "0"
        room.close()
        with pytest.raises(WebSocketDisconnect):
            [listener.receive_text() for _ in range(3)]
    assert not room._listeners


def test_browser_learns_that_the_room_is_over(client: TestClient, room: Room) -> None:
    with client.websocket_connect(f"/{push.PATH}/{room.code}") as awake:
        assert awake.receive_text() == "0"
        room.close()
        assert awake.receive_text() == str(push.OVER)
    with client.websocket_connect(f"/{push.PATH}/{room.code}") as asleep_until_now:
        assert asleep_until_now.receive_text() == str(push.OVER)
        with pytest.raises(WebSocketDisconnect) as closed:
            asleep_until_now.receive_text()
    assert closed.value.code == push.REFUSED


def test_a_full_room_is_tried_again_later(client: TestClient, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROOM_STUDENTS", 0)
    with client.websocket_connect(f"/{push.PATH}/{room.code}") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert closed.value.code == push.LATER


def test_pages_of_other_servers_are_refused(client: TestClient, room: Room) -> None:
    path = f"/{push.PATH}/{room.code}"
    with client.websocket_connect(path, headers={"origin": "http://testserver"}) as own:
        assert own.receive_text() == "0"
    foreign = client.websocket_connect(path, headers={"origin": "http://elsewhere.example"})
    with pytest.raises(WebSocketDisconnect), foreign:
        pass
