"""Run many visitors on one server: whether all runs finish, texts stay separate, and the page still responds.

Each visitor is a WebSocket client of Streamlit's protocol and opens a link, which starts a run; one more visitor stays
on the first screen and reruns the page repeatedly. With a browser per visitor, the browsers would dominate the times.

    python -m tests.benchmarks.sessions [MODEL_FOLDER] [--visitors 20] [--new-tokens 64]
"""

import asyncio
import base64
import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import click
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).parent.parent.parent
TICK = re.compile(rb'data-lens="([^"]+)"')
PATIENCE = 300


class Visitor:
    """One session; keeps all text that the server sent to it."""

    def __init__(self, port: int, address: dict[str, object]) -> None:
        self.url = f"ws://127.0.0.1:{port}/_stcore/stream"
        self.query = urllib.parse.urlencode(address)
        self.received = bytearray()

    async def __aenter__(self) -> "Visitor":
        self.socket = await websockets.connect(
            self.url, max_size=None, subprotocols=["streamlit"], open_timeout=PATIENCE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def rerun(self) -> float:
        """Run the page once and return the seconds until it had finished, with all reruns of its own."""
        message = BackMsg()
        message.rerun_script.query_string = self.query
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        async for answer in self._answers():
            if answer.HasField("script_finished") and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                break
        return time.perf_counter() - start

    async def _answers(self) -> AsyncIterator[ForwardMsg]:
        while True:
            raw = await asyncio.wait_for(self.socket.recv(), PATIENCE)
            self.received += raw if isinstance(raw, bytes) else raw.encode()
            answer = ForwardMsg()
            answer.ParseFromString(raw)
            yield answer

    def text(self) -> bytes:
        """Return all received text; the hidden elements for the lens are decoded."""
        ticks = (base64.b64decode(tick) for tick in TICK.findall(bytes(self.received)))
        return bytes(self.received) + b"".join(ticks)


async def visit(port: int, number: int, new_tokens: int) -> tuple[float, bytes]:
    """Do one visitor's run from the link to its end; return the seconds and all received text."""
    address = {"prompt": f"The word is {secret(number)} and", "new": new_tokens, "seed": number}
    async with Visitor(port, address) as visitor:
        return await visitor.rerun(), visitor.text()


def secret(number: int) -> str:
    """Return a word that only one visitor's text contains."""
    return f"qz{number:03d}vx"


async def measure(port: int, visitors: int, new_tokens: int) -> None:
    """Open the page once to load the model, then let all visitors run at once, and print the results."""
    seconds, _ = await visit(port, 999, 4)
    click.echo(f"first run, loading the model   {seconds:6.2f} s")
    async with Visitor(port, {}) as bystander:
        alone = [await bystander.rerun() for _ in range(20)]
        runs = [asyncio.create_task(visit(port, number, new_tokens)) for number in range(visitors)]
        busy = []
        while not all(run.done() for run in runs):
            busy.append(await bystander.rerun())
            await asyncio.sleep(0.1)
    done = [run.result() for run in runs]
    leaks = [
        (number, other)
        for number, (_, text) in enumerate(done)
        for other in range(visitors)
        if other != number and secret(other).encode() in text
    ]
    missing = [number for number, (_, text) in enumerate(done) if secret(number).encode() not in text]
    times = sorted(seconds for seconds, _ in done)
    click.echo(
        f"{visitors} runs at once, {new_tokens} new tokens   "
        f"median {statistics.median(times):.2f} s, last {times[-1]:.2f} s"
    )
    click.echo(f"saw another's text             {len(leaks)}; own text missing {len(missing)}")
    for name, values in (("alone", alone), ("meanwhile", busy)):
        p50, p95 = statistics.median(values), sorted(values)[int(0.95 * (len(values) - 1))]
        click.echo(
            f"rerun of the first screen, {name:<10} p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} ms, n = {len(values)}"
        )


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
@click.option("--visitors", default=20)
@click.option("--new-tokens", default=64)
def main(model: str | None, visitors: int, new_tokens: int) -> None:
    """Measure on the embedded model, or on the folder MODEL."""
    port = free_port()
    environment = os.environ | ({"MOE_LOUPE_MODELS": model} if model else {})
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        click.echo(f"server ready                   {wait_for(port):6.2f} s")
        asyncio.run(measure(port, visitors, new_tokens))
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
