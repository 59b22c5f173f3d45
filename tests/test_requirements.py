"""Every package that a file imports stands in the requirements file of its place, and none stands there unused."""

import importlib.metadata
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, imports, name_of, parse

OURS = {"app", "model", "pages", "tests", "viz"}
FILES = [ROOT / "app.py", *(path for part in sorted(OURS - {"app"}) for path in (ROOT / part).rglob("*.py"))]
# A place -> the files whose packages it may use, its own one first. The longest prefix of a file's path decides.
RUN, TRAIN, SWEEP, DEV = (f"requirements{suffix}.txt" for suffix in ("", "-train", "-sweep", "-dev"))
MAY_USE = {
    "": (RUN,),
    "model/train/": (TRAIN, RUN),
    "model/sweep/": (SWEEP, RUN),
    "tests/": (DEV, TRAIN, SWEEP, RUN),
}
# Packages that are run and never imported.
TOOLS = {"pyright", "pytest-xdist", "ruff"}
# An imported package -> the distributions that bring it.
DISTRIBUTIONS = defaultdict(list, importlib.metadata.packages_distributions())


def listed(requirements: str) -> set[str]:
    """The distributions that a requirements file names itself."""
    lines = (ROOT / requirements).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[^\w.-]", line)[0].lower() for line in lines if line and not line.startswith(("-", "#"))}


def packages(path: Path) -> Iterator[str]:
    """The packages of others that a file imports, by name or through `pytest.importorskip`."""
    skipping = re.findall(r"importorskip\(['\"](\w+)", path.read_text(encoding="utf-8"))
    names = {module.split(".")[0] for _, module in imports(parse(path))} | set(skipping)
    yield from names - OURS - sys.stdlib_module_names


def place(path: Path) -> str:
    return max((prefix for prefix in MAY_USE if name_of(path).startswith(prefix)), key=len)


def distributions(package: str) -> set[str]:
    """The distributions that bring a package; none if it is not installed."""
    return {name.lower() for name in DISTRIBUTIONS[package]}


@pytest.mark.parametrize("where", MAY_USE)
def test_every_import_is_listed(where: str) -> None:
    allowed = set().union(*map(listed, MAY_USE[where]))
    used = {package: path for path in FILES if place(path) == where for package in packages(path)}
    assert {package: name_of(path) for package, path in used.items() if not distributions(package) & allowed} == {}


@pytest.mark.parametrize("where", MAY_USE)
def test_nothing_is_listed_unused(where: str) -> None:
    used = {package for path in FILES if place(path) == where for package in packages(path)}
    imported = set().union(*map(distributions, used))
    assert listed(MAY_USE[where][0]) - imported - TOOLS == set()


def test_no_package_is_listed_twice() -> None:
    names = [name for requirements in (RUN, TRAIN, SWEEP, DEV) for name in listed(requirements)]
    assert sorted(set(names)) == sorted(names)


def test_oldest_transformers_is_the_lower_end_of_its_range() -> None:
    lower = re.search(r"^transformers>=(\d+\.\d+),<", (ROOT / RUN).read_text(encoding="utf-8"), re.MULTILINE)
    assert lower is not None
    assert f"--target $(VENV)/oldest transformers=={lower[1]}.0" in (ROOT / "Makefile").read_text(encoding="utf-8")
