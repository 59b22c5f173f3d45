"""Measure a visitor's waiting times in Chromium on a separate server.

They are: start to a usable first screen, click to a painted router map, tokens and changed frames per second while a
run streams, pointer to highlight. Run it on an otherwise idle machine:

    python -m tests.benchmarks.screen [MODEL_FOLDER]
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator

import click
from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.sessions import ROOT, free_port, wait_for
from tests.browser.conftest import SWITCHES, installed_chromium

LONG_PROMPT = "Once upon a time there was a little wolf who lived near the forest with his mother. " * 8
NEW_TOKENS = 200
READY = "window.__lens && __lens.tokens > 1 && __lens.frames > 0 && !__lens.lens.running"
AT_REST = f"{READY} && document.querySelector('.st-key-stop button').disabled"

# Seconds from pressing Generate to the first frame that shows a new run's prompt.
CLICK = """() => new Promise(done => {
  const lens = __lens.lens, before = lens.run.header.run, start = performance.now();
  const look = () => lens.run.header.run !== before && !lens.stale ? done((performance.now() - start) / 1000)
    : requestAnimationFrame(look);
  document.querySelector('.st-key-generate button').click();
  requestAnimationFrame(look);
})"""
# Of a whole run: tokens, animation frames, and frames with changed map pixels per second. Reading whole maps back would
# take longer than painting them, so two columns of each map are compared; every row of tokens crosses them.
STREAM = """() => new Promise(done => {
  const lens = __lens.lens, before = lens.run.header.run;
  const maps = ['router', 'attention'].map(name => lens.plots[name].base);
  let start = null, first = 0, last = 0, frames = 0, changed = 0, known = null;
  const column = (canvas, share) => canvas.getContext('2d')
    .getImageData(Math.round(canvas.width * share), 0, 1, canvas.height).data;
  const sum = canvas => [0.2, 0.5].map(share => column(canvas, share)
    .reduce((total, value) => (Math.imul(total, 31) + value) | 0, 0));
  const look = () => {
    const going = lens.run.header.run !== before;
    if (going && start === null) [start, first] = [performance.now(), lens.count];
    if (start !== null && lens.running) {
      const now = maps.map(sum).join();
      frames++;
      changed += now !== known;
      known = now;
      last = lens.count;
    }
    if (going && !lens.running) {
      const seconds = (performance.now() - start) / 1000;
      return done([(last - first) / seconds, frames / seconds, changed / seconds]);
    }
    requestAnimationFrame(look);
  };
  document.querySelector('.st-key-generate button').click();
  requestAnimationFrame(look);
})"""


@contextlib.contextmanager
def server(model: str | None) -> Iterator[tuple[str, float]]:
    """Yield the address of the app on a free port, and the time of its start."""
    port = free_port()
    environment = os.environ | ({"MOE_LOUPE_MODELS": model} if model else {})
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}", began
    finally:
        process.terminate()
        process.wait(30)


def hover(page: Page) -> list[float]:
    """Return milliseconds from the pointer's event to the end of the frame with the highlight, for 60 chips."""
    page.evaluate("__lens.hoverMs = []")
    chips = page.locator(".chip").all()[:60]
    for chip in chips:
        chip.hover()
    return page.evaluate("__lens.hoverMs")


def open_link(page: Page, address: str, **asked: object) -> None:
    """Open a link and wait until its run has ended."""
    page.goto(f"{address}/?{urllib.parse.urlencode(asked)}")
    page.wait_for_function(AT_REST, timeout=120_000)


@click.command()
@click.argument("model", required=False)
@click.option("--repeats", default=7, show_default=True)
def main(model: str | None, repeats: int) -> None:
    """Measure on the embedded model, or on the folder MODEL."""
    chosen = {"model": os.path.basename(model.rstrip("/"))} if model else {}
    with sync_playwright() as playwright, server(model) as (address, began):
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=SWITCHES)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_function(READY, timeout=60_000)
        click.echo(f"streamlit run to a usable first screen   {time.perf_counter() - began:6.2f} s")
        open_link(page, address, prompt=LONG_PROMPT[:200], new=0, **chosen)
        tokens = page.evaluate("__lens.tokens")
        seconds = []
        for _ in range(repeats):
            seconds.append(page.evaluate(CLICK))
            page.wait_for_function(AT_REST)
        said = f"median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s, n = {repeats}"
        click.echo(f"click to painted router map, {tokens} tokens   {said}")
        open_link(page, address, prompt="Once upon a time", new=NEW_TOKENS, temp=0.7, **chosen)
        for _ in range(3):
            shown, frames, changed = page.evaluate(STREAM)
            page.wait_for_function(AT_REST)
            rates = f"{shown:.0f} tokens/s shown, {frames:.0f} frames/s, {changed:.0f} of them with changed pixels"
            click.echo(f"{NEW_TOKENS} tokens streaming   {rates}")
        times = sorted(hover(page))
        p95 = times[int(0.95 * (len(times) - 1))]
        click.echo(f"hover to highlight   median {statistics.median(times):.2f} ms, p95 {p95:.2f} ms, n = {len(times)}")
        browser.close()


if __name__ == "__main__":
    main()
