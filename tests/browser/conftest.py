"""A Streamlit server and a Chromium for tests that use the app as a visitor does.

Chromium is the one that CHROMIUM names, an installed one, or Playwright's own. Without a browser the tests are skipped,
or fail if CI is set, where a browser is required.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

from viz.theme import DARK, Theme

ROOT = Path(__file__).parent.parent.parent
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SETTINGS = {
    "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    "STREAMLIT_SERVER_HEADLESS": "true",
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
}
START_SECONDS = 60

Visit = Callable[..., Page]
expect.set_options(timeout=60_000)  # on a busy machine the default of five seconds is too short


def installed_chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=installed_chromium(), args=SWITCHES)
        except Error as problem:
            stop = pytest.fail if os.environ.get("CI") else pytest.skip
            stop(f"no Chromium to test with; set CHROMIUM or run `make browser` ({problem.message.splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder named `tiny` with a random model and a small vocabulary, which the app offers too."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random model of many layers, whose runs take seconds: long enough to stop them."""
    return write_model(tmp_path_factory.mktemp("models") / "deep", num_layers=100)


@pytest.fixture(scope="session")
def app(serve: Callable[..., str], chromium: Browser, tiny_model: Path, deep_model: Path) -> str:
    """Return the address of the app with both models.

    Show its first page once: until then a server knows no page, and a dialog says so and takes the keyboard's focus.
    """
    address = serve("app.py", MOE_LOUPE_MODELS=os.pathsep.join(map(str, (tiny_model, deep_model))))
    page = chromium.new_page()
    page.goto(address)
    page.wait_for_selector(".st-key-generate", timeout=60_000)
    page.close()
    return address


def write_model(folder: Path, **changes: int) -> Path:
    """Write a random model and a vocabulary of 320 entries."""
    import torch

    from model.checkpoint.weights import save_model
    from model.train.data.bpe import train_vocabulary
    from tests.models import random_model, tiny_config

    save_model(random_model(tiny_config(max_positions=1024, **changes)), folder, torch.float32)
    words = ["Once upon a time there was a wolf in the dark forest"] * 20
    train_vocabulary(words, 320, show_progress=False).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start a script of the project once, with its own environment variables, and return its address."""
    servers: dict[str, tuple[subprocess.Popen[bytes], str]] = {}

    def start(script: str, **variables: str) -> str:
        if script not in servers:
            servers[script] = start_server(script, variables, tmp_path_factory.mktemp("server") / "log.txt")
        return servers[script][1]

    yield start
    for process, _ in servers.values():
        process.terminate()
        process.wait(10)


def start_server(script: str, variables: dict[str, str], log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a script at a free port that the system chooses; return the process and the address from its log."""
    environment = os.environ | SETTINGS | variables | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    end = time.monotonic() + START_SECONDS
    while not (address := re.search(r"http://127\.0\.0\.1:\d+\b(?=\s)", log.read_text(errors="replace"))):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"{script} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    return process, address.group()


@pytest.fixture(scope="session")
def visited(chromium: Browser) -> Iterator[BrowserContext]:
    """Return the context that the first window of each test uses, without cookies and storage of an earlier one.

    One page stays open in it. It keeps the process of its site, which need not compile the scripts of the app again:
    that takes 2 of the 6 seconds of a core that a window in a new context costs.
    """
    context = chromium.new_context()
    yield context
    context.close()


def stay(context: BrowserContext, address: str) -> None:
    """Keep a page of the site open in the context: one that runs no script."""
    if not context.pages:
        context.new_page().goto(urljoin(address, "/_stcore/health"))


@contextlib.contextmanager
def windows(visited: BrowserContext) -> Iterator[Visit]:
    """Yield what opens an address in a new window; fail on an error of a script or a request to another host.

    Each window is another visitor's: the first one's in the context `visited`, each of the others' in a new context.
    """
    opened: list[Page] = []
    problems: list[str] = []
    browser = visited.browser
    assert browser is not None

    def open_page(address: str, width: int = 1280, height: int = 900, theme: str = "light") -> Page:
        context = browser.new_context() if opened else visited
        stay(visited, address)
        page = context.new_page()
        opened.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(error.stack or error.message))
        page.on("request", lambda request: problems.extend(elsewhere(request.url)))
        page.goto(address)
        return page

    yield open_page
    for page in opened[1:]:
        page.context.close()
    for page in opened[:1]:
        page.evaluate("localStorage.clear()")
        page.close()
        visited.clear_cookies()
        visited.clear_permissions()
    assert problems == []


@pytest.fixture
def visit(visited: BrowserContext) -> Iterator[Visit]:
    """Open an address in a new window of this test."""
    with windows(visited) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def shared_visit(visited: BrowserContext) -> Iterator[Visit]:
    """Open an address in a new window that several tests of a module use."""
    with windows(visited) as open_page:
        yield open_page


# The script has ended, and nothing has begun another one for a while.
AT_REST = """() => {
  const now = performance.now(), app = document.querySelector('[data-testid=stApp]');
  if (app?.dataset.testScriptState !== 'notRunning') window.restless = now;
  return now - (window.restless ??= now) > 500;
}"""


def at_rest(page: Page) -> None:
    """Wait until the page has settled: its script has ended, and half a second has passed without another one."""
    page.evaluate("delete window.restless")
    page.wait_for_function(AT_REST)


WEARS = "color => getComputedStyle(document.querySelector('.stApp')).backgroundColor === color"


def wear(page: Page, theme: Theme) -> None:
    """Change the browser's theme, and wait until the page has it too."""
    page.emulate_media(color_scheme="dark" if theme is DARK else "light")
    page.wait_for_function(WEARS, arg="rgb({}, {}, {})".format(*bytes.fromhex(theme.background[1:])))
    page.wait_for_timeout(200)


# Position of the first point whose customdata starts like this (null matches all); nothing while the figure moves.
PLACE = """([selector, wanted]) => {
  const plot = document.querySelector(selector);
  const axes = plot?._fullLayout;
  if (!axes?.xaxis?.d2p) return null;
  const { left, top } = plot.getBoundingClientRect();
  for (const trace of plot._fullData) {
    const cells = Array.from(trace.customdata ?? []);
    const at = cells.findIndex(cell => wanted.every((value, place) => value === null || cell[place] === value));
    if (at < 0) continue;
    const place = [left + axes.xaxis._offset + axes.xaxis.d2p(trace.x[at]),
                   top + axes.yaxis._offset + axes.yaxis.d2p(trace.y[at])];
    const still = place.join() === window.placed;
    window.placed = place.join();
    return still && place.every(Number.isFinite) ? place : null;
  }
  return null;
}"""


def click_point(page: Page, selector: str, *customdata: str | float | None) -> None:
    """Click the point of a figure with this `customdata`, once page and figure stand still; None matches anything."""
    at_rest(page)
    page.mouse.click(*page.wait_for_function(PLACE, arg=[selector, list(customdata)]).json_value())


def elsewhere(url: str) -> list[str]:
    here = url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
    return [] if here else [f"the page asked for {url}"]
