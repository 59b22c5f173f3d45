"""Take screenshots of every page, for inspection and the README: `python -m tests.browser.screenshots FOLDER`.

They show the recorded example, one screenshot per page, theme and width.
"""

from pathlib import Path

import click
from playwright.sync_api import Browser, sync_playwright

from tests.benchmarks.screen import READY, server
from tests.browser.conftest import SWITCHES, installed_chromium

PAGES = {
    "explore": "",
    "routing": "routing",
    "expert_load": "expert_load",
    "attention": "attention",
    "tokens": "tokens",
    "atlas": "atlas",
    "counterfactual": "counterfactual",
    "compare": "compare",
    "doctor": "doctor",
    "imports": "imports",
    "architecture": "architecture",
    "training": "training",
    "collapse": "collapse",
    "data": "data",
    "what_changed": "what_changed",
}
VIEW = "token=24&layer=3&ran=yes"
AT_REST = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
  && !document.querySelector('[data-testid=stSkeleton]')"""


def take(browser: Browser, address: str, page_name: str, theme: str, width: int, whole: bool, out: Path) -> None:
    """Take one screenshot, after the page has settled."""
    context = browser.new_context(viewport={"width": width, "height": width * 10 // 16}, color_scheme=theme)
    page = context.new_page()
    page.goto(f"{address}/{PAGES[page_name]}?{VIEW}")
    if page_name == "explore":
        page.wait_for_function(READY)
    page.wait_for_function(AT_REST, timeout=60_000)
    page.wait_for_timeout(1500)
    if whole:  # Streamlit scrolls inside the page: a tall window shows all of it
        height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
        page.set_viewport_size({"width": width, "height": min(4000, height + 20)})
        page.wait_for_timeout(800)
    page.screenshot(path=out / f"{page_name}-{theme}-{width}.png")
    context.close()


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--pages", default=",".join(PAGES), show_default=True)
@click.option("--themes", default="light,dark", show_default=True)
@click.option("--widths", default="1024,1280,1920", show_default=True)
@click.option("--whole", is_flag=True, help="All of the page, not only its first screen.")
@click.option("--model", help="A model folder to offer beside the embedded ones.")
def main(folder: Path, pages: str, themes: str, widths: str, whole: bool, model: str | None) -> None:
    """Save the screenshots in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, server(model) as (address, _):
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=SWITCHES)
        for page_name in pages.split(","):
            for theme in themes.split(","):
                for width in widths.split(","):
                    take(browser, address, page_name, theme, int(width), whole, folder)
        browser.close()


if __name__ == "__main__":
    main()
