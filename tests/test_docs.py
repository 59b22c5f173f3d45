"""The documents name files, names in files, commands and options that exist."""

import importlib.util
import re
from pathlib import Path

import click
import pytest

from model.cli.main import main

ROOT = Path(__file__).parent.parent
NAMES = ("README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md")
OTHERS = ("docs/*.md", "model/presets/*/MODEL_CARD.md", "model/presets/*/README.md")
DOCUMENTS = sorted(path for name in NAMES + OTHERS for path in ROOT.glob(name))
TOP_LEVEL = {path.name for path in ROOT.iterdir()}
SOURCES = {path.name for part in ("app.py", "model", "pages", "tests", "viz") for path in ROOT.glob(f"{part}/**/*")}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def quoted(document: Path) -> list[str]:
    """All code in backticks, fenced blocks line by line; a quotation that a line break splits is joined."""
    text = document.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"^```.*?^```", text, re.M | re.S) for line in block.splitlines()[1:-1]]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return lines + [" ".join(code.split()) for code in inline]


@each_document
def test_paths_exist(document: Path) -> None:
    paths = [code for code in quoted(document) if re.fullmatch(r"[\w.*/-]+", code)]
    with_folder = [path for path in paths if path.split("/")[0] in TOP_LEVEL]
    assert [path for path in with_folder if not list(ROOT.glob(path.rstrip("/")))] == []
    bare = [path for path in paths if re.fullmatch(r"[\w-]+\.(py|js|toml|css|html)", path)]
    assert [path for path in bare if path not in SOURCES | TOP_LEVEL] == []


@each_document
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    ours = [link for link in links if "://" not in link]
    assert [link for link in ours if not (document.parent / link).exists()] == []


@each_document
def test_links_within_a_document_lead_to_headings(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", text) if link not in headings] == []


def test_index_lists_every_decision_once() -> None:
    index, decisions = (ROOT / "DESIGN.md").read_text(encoding="utf-8").split("## Decisions\n")
    listed = re.findall(r"^- \[(.*)\]\(#", index, re.M)
    assert sorted(listed) == sorted(re.findall(r"^### [\d-]{10} (.*)$", decisions, re.M))


@each_document
def test_names_stand_in_the_files_that_a_document_says_hold_them(document: Path) -> None:
    text = " ".join(document.read_text(encoding="utf-8").split())
    pairs = re.findall(r"`(\w+)` in `([\w./-]+\.(?:py|js|toml))`", text)
    assert [pair for pair in pairs if pair[0] not in (ROOT / pair[1]).read_text(encoding="utf-8")] == []


@each_document
def test_commands_and_options_exist(document: Path) -> None:
    context = click.Context(main)
    wrong = []
    for code in quoted(document):
        for module, command in re.findall(r"python -m ([\w.]+)(?: ([a-z]+))?", code):
            if module != "model":
                wrong += [code] if module.split(".")[0] in TOP_LEVEL and not importlib.util.find_spec(module) else []
                continue
            found = main.get_command(context, command) if command else main
            options = {option for parameter in found.params for option in parameter.opts} if found else set()
            used = set(re.findall(r"(?<!\S)--[a-z-]+", code.split("#")[0])) - {"--help"}
            wrong += [code] if found is None or used - options else []
    assert wrong == []


@each_document
def test_files_and_targets_in_commands_exist(document: Path) -> None:
    commands = [code for code in quoted(document) if re.search(r"python -m |pytest |\bmake ", code)]
    words = [word.split("::")[0] for code in commands for word in code.split("#")[0].split() if "/" in word]
    ours = [word for word in words if word.split("/")[0] in {"app.py", "model", "pages", "tests", "viz"}]
    assert [word for word in ours if not (ROOT / word).exists()] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = [target for code in commands for target in re.findall(r"\bmake ([a-z]+)", code.split("#")[0])]
    assert [target for target in named if target not in targets] == []
