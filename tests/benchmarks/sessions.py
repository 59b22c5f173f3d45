"""Let a class press Generate at once: speed of all runs together, waits for the first token, separation of visitors.

Each visitor is a WebSocket client of Streamlit's protocol. All open Explore, then press Generate in the same moment,
each with a prompt of its own; one more visitor reruns another page meanwhile. With a browser per visitor, the browsers
would dominate the times. The speed of one run alone is measured before and after, through the engine in this process,
while the server is idle. Server and clients share the cores of this machine.

    python -m tests.benchmarks.sessions [MODEL_FOLDER] [--visitors 30] [--new-tokens 64] [--repeats 3] [--equal]
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.typing import Subprotocol

from model.run.engine import Engine, spare_cores
from pages.common import limits, session
from pages.common.runs import Run, fit

ROOT = Path(__file__).parent.parent.parent
TICK = re.compile(rb'data-lens="([^"]+)"')
PATIENCE = 300
OTHER_PAGE = "tokens"
SECONDS_OF_THOUGHT = 0.5  # between two reruns of the visitor on another page


class Visitor:
    """One session; keeps all text that the server sent to it, and when each token of its runs arrived."""

    def __init__(self, port: int, page: str = "", values: Mapping[str, str | int] | None = None) -> None:
        self.url = f"ws://127.0.0.1:{port}/_stcore/stream"
        self.page, self.values = page, values or {}
        self.received = bytearray()
        self.widgets: dict[str, str] = {}  # id by key
        self.arrivals: list[tuple[float, int, int]] = []  # time, run, number of tokens that have arrived
        self.began = 0.0

    async def __aenter__(self) -> "Visitor":
        self.socket = await websockets.connect(
            self.url, max_size=None, subprotocols=[Subprotocol("streamlit")], open_timeout=PATIENCE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def rerun(self, pressed: str | None = None) -> float:
        """Run the page once, by a press on the button with this key; return the seconds until it had finished.

        They include all reruns that the page itself asks for.
        """
        message = BackMsg()
        rerun = message.rerun_script
        rerun.page_name = self.page
        for key, value in self.values.items():
            if key in self.widgets:
                state = rerun.widget_states.widgets.add(id=self.widgets[key])
                setattr(state, "string_value" if isinstance(value, str) else "int_value", value)
        if pressed is not None:
            rerun.widget_states.widgets.add(id=self.widgets[pressed], trigger_value=True)
        self.began = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        async for answer in self._answers():
            if answer.HasField("script_finished") and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                break
        return time.perf_counter() - self.began

    async def _answers(self) -> AsyncIterator[ForwardMsg]:
        while True:
            raw = await asyncio.wait_for(self.socket.recv(), PATIENCE)
            raw = raw if isinstance(raw, bytes) else raw.encode()
            self.received += raw
            answer = ForwardMsg()
            answer.ParseFromString(raw)
            element = answer.delta.new_element
            kind = element.WhichOneof("type")
            if kind in ("button", "text_area", "number_input"):
                identity = getattr(element, kind).id
                self.widgets[identity.rsplit("-", 1)[-1]] = identity
            self.arrivals += [(time.perf_counter(), *position_of(base64.b64decode(tick))) for tick in TICK.findall(raw)]
            yield answer

    def text(self) -> bytes:
        """Return all received text; the hidden elements for the lens are decoded."""
        ticks = (base64.b64decode(tick) for tick in TICK.findall(bytes(self.received)))
        return bytes(self.received) + b"".join(ticks)

    @property
    def num_prompt(self) -> int:
        """Number of tokens of the first block that arrived, which is the prompt."""
        ticks = TICK.findall(bytes(self.received))
        return _blocks(base64.b64decode(ticks[0]))[0][1]

    @property
    def first_token(self) -> float:
        """Seconds from the press to the first generated token."""
        return next(when for when, _, count in self.arrivals if count > self.num_prompt) - self.began

    @property
    def new_tokens(self) -> int:
        """Number of generated tokens that arrived."""
        return self.arrivals[-1][2] - self.num_prompt


def position_of(tick: bytes) -> tuple[int, int]:
    """Return the number of the run that a tick belongs to, and the number of tokens up to its end."""
    length = int.from_bytes(tick[:4], "little")
    first, count = _blocks(tick)[-1]
    return json.loads(tick[4 : 4 + length])["run"], first + count


def _blocks(tick: bytes) -> list[tuple[int, int]]:
    """Return first token and number of tokens of each block of a tick."""
    place, blocks = 4 + int.from_bytes(tick[:4], "little"), []
    while place < len(tick):
        size, first, count = struct.unpack_from("<3I", tick, place)
        blocks.append((first, count))
        place += size
    return blocks


def secret(number: int) -> str:
    """Return a word that only one visitor's text contains."""
    return f"qz{number:03d}vx"


class Alone:
    """The speed of one run alone through the engine, with the captures and threads of the app."""

    def __init__(self, model: str | None, new_tokens: int) -> None:
        spare_cores(limits.SPARED_CORES)
        self._engine, self._new = Engine.fitting(model or "mini-v3"), new_tokens

    def tokens_per_second(self, runs: int = 8) -> float:
        """Return generated tokens a second, the median of some runs."""
        speeds, self.core_seconds = [], 0.0
        for number in range(runs):
            run = Run(0, "run", session.request_from(request(number, self._new)))
            fit(run, self._engine)
            assert run.request is not None
            began, used = time.perf_counter(), time.process_time()
            trace = self._engine.run(run.request)
            new = sum(token.generated for token in trace.tokens)
            speeds.append(new / (time.perf_counter() - began))
            self.core_seconds += (time.process_time() - used) / runs
        return statistics.median(speeds)


def request(number: int, new_tokens: int) -> dict[str, str | int]:
    """Return the widget values of a visitor's request."""
    return {"prompt": f"The word is {secret(number)} and", "new": new_tokens}


async def warm_up(port: int) -> None:
    """Run once, so that the model is loaded."""
    async with Visitor(port, values=request(999, 4)) as visitor:
        await visitor.rerun()
        await visitor.rerun("generate")


async def measure(port: int, visitors: int, new_tokens: int, equal: bool) -> float:
    """Let all visitors press Generate at once, print waits and leaks, and return the tokens a second of all."""
    async with contextlib.AsyncExitStack() as stack:
        bystander = await stack.enter_async_context(Visitor(port, OTHER_PAGE))
        requests = [request(0 if equal else number, new_tokens) for number in range(visitors)]
        everyone = [await stack.enter_async_context(Visitor(port, values=each)) for each in requests]
        for visitor in everyone:
            await visitor.rerun()
        await bystander.rerun()
        alone = [await bystander.rerun() for _ in range(20)]
        began = time.perf_counter()
        runs = [asyncio.create_task(visitor.rerun("generate")) for visitor in everyone]
        busy = []
        while not all(run.done() for run in runs):
            busy.append(await bystander.rerun())
            await asyncio.sleep(SECONDS_OF_THOUGHT)
        done = [run.result() for run in runs]
    everyone = [visitor for visitor in everyone if visitor.arrivals]  # the page of a very short run shows no step
    last = max(visitor.arrivals[-1][0] for visitor in everyone) - began
    tokens = sum(visitor.new_tokens for visitor in everyone)
    first = sorted(visitor.first_token for visitor in everyone)
    click.echo(f"{visitors} runs, {tokens} new tokens in {last:.2f} s, all pages drawn after {max(done):.2f} s")
    click.echo(f"  first token                  median {statistics.median(first):.2f} s, last {first[-1]:.2f} s")
    if equal:
        click.echo(f"  different texts              {len({visitor.text()[-2000:] for visitor in everyone})}")
    else:
        click.echo(f"  saw another's text or run    {leaks(everyone)}")
    for name, values in (("before", alone), ("meanwhile", busy)):
        p50, p95 = statistics.median(values), sorted(values)[int(0.95 * (len(values) - 1))]
        click.echo(
            f"  rerun of {OTHER_PAGE}, {name:<12} p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} ms, n = {len(values)}"
        )
    return tokens / last


def leaks(everyone: list[Visitor]) -> int:
    """Return how many visitors received another's text, a run of another, or not their own text."""
    texts = [visitor.text() for visitor in everyone]
    of_run = Counter(run for visitor in everyone for run in {run for _, run, _ in visitor.arrivals})
    strangers = [
        number
        for number, text in enumerate(texts)
        if secret(number).encode() not in text
        or any(secret(other).encode() in text for other in range(len(texts)) if other != number)
        or any(of_run[run] > 1 for _, run, _ in everyone[number].arrivals)
    ]
    return len(strangers)


def processes_of(server: int) -> list[int]:
    """Return the ids of a process and of those that it has started."""
    listed = (path.read_text() for path in Path(f"/proc/{server}/task").glob("*/children"))
    return [server, *map(int, " ".join(listed).split())]


def cpu_seconds(server: int) -> float:
    """Return the processor time that the server and its processes have used, in seconds."""
    stats = (Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1].split() for process in processes_of(server))
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, limit: float = 60) -> float:
    """Return the seconds until the server responds."""
    start = time.perf_counter()
    while time.perf_counter() - start < limit:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
            return time.perf_counter() - start
        except OSError:
            time.sleep(0.05)
    raise click.ClickException("the server did not start")


@click.command()
@click.argument("model", required=False)
@click.option("--visitors", default=30)
@click.option("--new-tokens", default=64)
@click.option("--repeats", default=3)
@click.option("--equal", is_flag=True, help="All visitors send the same prompt.")
def main(model: str | None, visitors: int, new_tokens: int, repeats: int, equal: bool) -> None:
    """Measure on the embedded model, or on the folder MODEL."""
    port = free_port()
    environment = os.environ | ({"MOE_LOUPE_MODELS": model} if model else {})
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        click.echo(f"server ready                   {wait_for(port):6.2f} s")
        asyncio.run(warm_up(port))
        alone = Alone(model, new_tokens)
        alone.tokens_per_second()
        for _ in range(repeats):
            before, used = alone.tokens_per_second(), cpu_seconds(server.pid)
            speed = asyncio.run(measure(port, visitors, new_tokens, equal))
            used, after = cpu_seconds(server.pid) - used, alone.tokens_per_second()
            one = (before + after) / 2
            click.echo(
                f"  all together {speed:.0f} tokens/s, one alone {before:.0f} before and {after:.0f} after: "
                f"{speed / one:.2f}; server {used:.1f} core-seconds, "
                f"a run alone {alone.core_seconds:.2f}; load of the machine {os.getloadavg()[0]:.1f}"
            )
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
