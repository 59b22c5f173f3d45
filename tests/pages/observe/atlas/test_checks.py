import numpy as np
import xarray as xr

from model.atlas.folder import Sweep
from pages.common.menu import page_path
from pages.observe.atlas import checks
from tests.pages.conftest import said
from tests.pages.observe.atlas.conftest import OpenApp

PAGE = page_path("atlas")


def test_checks_of_the_tests_of_lift(show_at: OpenApp, sweep: Sweep) -> None:
    words = said(show_at(part="How sure"))
    assert "**Shuffled labels: " in words
    assert "was shuffled 50 times; the tests then called " in words
    assert "**Two random halves of the documents agree: rank correlation " in words


def test_numbers_of_the_sentences() -> None:
    shuffle = {"tests": ("shuffle", np.array([10, 10])), "calls": ("shuffle", np.array([0, 1]))}
    found = xr.Dataset(shuffle, attrs={"false_calls": 0.05, "documents": 40})
    assert checks.of_shuffles(found, "domain").startswith("**Shuffled labels: 5.00% false calls.** The domain of the")
    assert "called 1 of 20 lifts" in checks.of_shuffles(found, "domain")
    halves = {"spearman": ("split", np.array([0.1, 0.5, 0.6])), "reliability": ("split", np.array([0.2, 0.7, 0.8]))}
    assert "rank correlation 0.5 of their lifts**, the median of 3 splits" in checks.of_halves(xr.Dataset(halves))
