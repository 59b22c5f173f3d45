"""Let a class follow a teacher: what the server computes, and how soon all followers see a step.

Teacher and followers are WebSocket clients of Streamlit's protocol; each also holds the connection that tells of new
versions of the room (`pages/frame/room/push.py`), and reruns its page when one arrives, as a browser does. The teacher
steps through pages, layers and tokens. A step counts as seen when the last element of the follower's page has arrived.
The time runs from the teacher's click.

    python -m tests.benchmarks.room [--followers 40] [--minutes 10] [--seconds-per-step 20]
"""

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import click
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.benchmarks.sessions import PATIENCE, ROOT, cpu_seconds, free_port, processes_of, wait_for

STEPS = itertools.cycle(
    [
        ("routing", {"layer": "2", "token": "5"}),
        ("expert_load", {"layer": "3"}),
        ("attention", {"layer": "1", "head": "2", "token": "9"}),
        ("routing", {"layer": "4", "token": "30"}),
        ("tokens", {"token": "12"}),
        ("", {"layer": "2", "token": "12"}),
    ]
)


class Client:
    """A browser tab: Streamlit's connection, and the one of the room."""

    def __init__(self, port: int, query: str = "") -> None:
        self.port, self.query, self.page = port, query, ""
        self.pages: dict[str, str] = {}  # name -> hash
        self.buttons: dict[str, str] = {}  # label -> widget id
        self.finished = asyncio.Event()
        self.seen = 0  # version that the page was drawn for
        self.done_at: dict[int, float] = {}  # version -> time

    async def open(self) -> None:
        address = f"ws://127.0.0.1:{self.port}/_stcore/stream"
        self.socket = await websockets.connect(
            address, max_size=None, subprotocols=["streamlit"], open_timeout=PATIENCE
        )
        self.reader = asyncio.create_task(self._read())
        await self.rerun()

    async def close(self) -> None:
        self.reader.cancel()
        await self.socket.close()

    async def rerun(self, button: str = "") -> None:
        """Run the page, after a click on a button if one is named, and wait until it has finished."""
        message = BackMsg()
        message.rerun_script.query_string, message.rerun_script.page_script_hash = self.query, self.page
        if button:
            message.rerun_script.widget_states.widgets.add(id=self.buttons[button], trigger_value=True)
        self.finished.clear()
        await self.socket.send(message.SerializeToString())
        await asyncio.wait_for(self.finished.wait(), PATIENCE)

    async def _read(self) -> None:
        async for raw in self.socket:
            answer = ForwardMsg()
            answer.ParseFromString(raw)
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                self.page = answer.new_session.page_script_hash
            elif kind == "navigation":
                self.pages = {page.url_pathname: page.page_script_hash for page in answer.navigation.app_pages}
            elif kind == "page_info_changed":
                self.query = answer.page_info_changed.query_string
            elif kind == "delta" and answer.delta.new_element.HasField("button"):
                self.buttons[answer.delta.new_element.button.label] = answer.delta.new_element.button.id
            elif kind == "script_finished" and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                self.finished.set()

    async def follow(self, code: str) -> None:
        """Rerun the page for each new version of the room."""
        async with websockets.connect(f"ws://127.0.0.1:{self.port}/room-versions/{code}") as versions:
            self.version = int(await versions.recv())

            async def note() -> None:
                async for text in versions:
                    self.version = int(text)

            noting = asyncio.create_task(note())
            try:
                while True:
                    if self.version > self.seen:
                        drawn = self.version
                        await self.rerun()
                        self.seen = drawn
                        self.done_at[drawn] = time.perf_counter()
                    await asyncio.sleep(0.005)
            finally:
                noting.cancel()


def parameter(query: str, name: str) -> str:
    return urllib.parse.parse_qs(query)[name][0]


def resident_mb(server: int) -> float:
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in processes_of(server))
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def step(teacher: Client, followers: list[Client]) -> list[float]:
    """Let the teacher open the next view, and return the seconds until each follower has it."""
    name, choices = next(STEPS)
    kept = {key: parameter(teacher.query, key) for key in ("room", "teach", "session")}
    teacher.query, teacher.page = urllib.parse.urlencode(choices | kept), teacher.pages[name]
    before = [len(client.done_at) for client in followers]
    start = time.perf_counter()
    await teacher.rerun()
    while any(len(client.done_at) == number for client, number in zip(followers, before, strict=True)):
        await asyncio.sleep(0.02)
        if time.perf_counter() - start > PATIENCE:
            raise click.ClickException("a follower did not see the step")
    return [max(client.done_at.values()) - start for client in followers]


async def measure(port: int, pid: int, number: int, minutes: float, pause: float) -> None:
    teacher = Client(port)
    await teacher.open()
    await teacher.rerun(button="Open a room")
    code = parameter(teacher.query, "room")
    followers = [Client(port, f"room={code}") for _ in range(number)]
    for client in followers:
        await client.open()
    following = [asyncio.create_task(client.follow(code)) for client in followers]
    for _ in range(6):  # each page once: imports and caches
        await step(teacher, followers)
    click.echo(f"{number} followers in the room, server {resident_mb(pid):,.0f} MB", err=True)
    idle_start, cpu = time.perf_counter(), cpu_seconds(pid)
    await asyncio.sleep(min(20, 10 * minutes))
    idle = (cpu_seconds(pid) - cpu) / (time.perf_counter() - idle_start)
    start, cpu, seconds, sizes = time.perf_counter(), cpu_seconds(pid), [], []
    while time.perf_counter() - start < 60 * minutes:
        began = time.perf_counter()
        seconds += await step(teacher, followers)
        sizes.append(resident_mb(pid))
        await asyncio.sleep(max(0.0, pause - (time.perf_counter() - began)))
    used, wall = cpu_seconds(pid) - cpu, time.perf_counter() - start
    for task in following:
        task.cancel()
    steps, seconds = len(sizes), sorted(seconds)
    click.echo(f"server without steps           {100 * idle:.1f} % of a core")
    click.echo(f"server, a step every {pause:.0f} s      {100 * used / wall:.1f} % of a core, {steps} steps")
    click.echo(f"server for a step of a follower {1e3 * used / steps / number:.0f} ms")
    click.echo(
        f"a step is seen after           p50 {statistics.median(seconds):.2f} s, "
        f"p95 {seconds[int(0.95 * (len(seconds) - 1))]:.2f} s, last {seconds[-1]:.2f} s"
    )
    click.echo(f"memory                         {sizes[0]:,.0f} MB at first, {sizes[-1]:,.0f} MB at the end")


@click.command()
@click.option("--followers", default=40)
@click.option("--minutes", default=10.0)
@click.option("--seconds-per-step", default=20.0)
def main(followers: int, minutes: float, seconds_per_step: float) -> None:
    """Measure a room on the embedded model."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        asyncio.run(measure(port, server.pid, followers, minutes, seconds_per_step))
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
