"""Figures on held-out loads: the fixture by hand, planted mixes, intervals."""

import numpy as np
import pytest

from model.atlas.placement.judge import by_label, by_layer, by_windows
from model.atlas.placement.loads import DOCUMENTS, Loads
from model.atlas.placement.plan import Layout, plan
from tests.model.atlas.placement.test_plan import FIXTURE

EVEN, CODE = [0.25, 0.25, 0.25, 0.25], [0.6, 0.2, 0.1, 0.1]


def drawn(parts: dict[str, tuple[int, list[float]]], tokens: int = 40) -> Loads:
    """Documents of two layers of four experts; label -> number of documents and shares of the experts."""
    rng = np.random.default_rng(5)
    counts = [rng.multinomial(tokens, shares, size=(number, 2)) for number, shares in parts.values()]
    labels = [label for label, (number, _) in parts.items() for _ in range(number)]
    return Loads(np.concatenate(counts), (3, 4), DOCUMENTS, 5, 1, np.array(labels), "domain")


def test_fixture_by_hand() -> None:
    """Held out: 4 / 7 by number, 4 / (22 / 3) placed; on the fit 4 / 4."""
    figures = by_layer(plan(FIXTURE, Layout(2, 2))).sel(moe_layer=1)
    assert float(figures["fit"]) == 1
    assert float(figures["numbered"]) == pytest.approx(4 / 7, abs=1e-5)
    assert float(figures["held_out"]) == pytest.approx(4 / (22 / 3), abs=1e-5)
    (stretch,) = by_windows(plan(Loads(FIXTURE.counts_ULE[[0, 0, 1, 1]], (1,), "windows", 3, 1), Layout(2, 2)))
    assert stretch.name == "2 stretches in time"
    assert stretch.placed.mean == pytest.approx(6 / 11, abs=1e-5)
    assert stretch.placed.interval is None


def test_a_single_window_holds_nothing_out() -> None:
    made = plan(Loads(FIXTURE.counts_ULE[:1], (1,), "windows", 3, 1), Layout(2, 2))
    figures = by_layer(made).sel(moe_layer=1)
    assert float(figures["fit"]) == 1
    assert float(figures["numbered"]) == pytest.approx(4 / 7, abs=1e-5)
    assert np.isnan(figures["held_out"])
    assert by_windows(made) == []
    assert by_label(made) == []


def test_a_map_fitted_on_one_label_fails_on_the_other() -> None:
    """By hand: code loads expert 0 with 0.6, which gets both copies; places [0, 0, 2 | 0, 1, 3] carry 0.5 each.

    Letters load expert 3 with 0.6: the ranks carry 0.27 and 0.73, which is 0.68.
    """
    loads = drawn({"code": (60, CODE), "letters": (60, CODE[::-1]), "few": (19, EVEN)})
    made = plan(loads, Layout(2, 2), {"code": 1.0})
    letters, code = by_label(made)  # the lowest first; too few documents are left out
    assert (letters.label, letters.documents) == ("letters", 60)
    assert (code.label, code.documents) == ("code", 30)
    held_out = float(by_layer(made)["held_out"].mean())
    assert code.held_out == pytest.approx(held_out, abs=1e-6)
    assert held_out > 0.95
    assert letters.held_out == pytest.approx(0.68, abs=0.02)


def test_small_batches_are_less_even_and_intervals_need_twenty_windows() -> None:
    loads = drawn({"code": (200, EVEN)})
    stretches, *batches = by_windows(plan(loads, Layout(2)))
    assert stretches.name == "20 stretches of the corpus"
    assert [(window.name, window.number) for window in batches] == [
        ("1 document at a time", 100),
        ("4 documents at a time", 25),
        ("16 documents at a time", 6),
        ("64 documents at a time", 1),
    ]
    means = [window.placed.mean for window in batches]
    assert means == sorted(means)
    assert [window.placed.interval is None for window in batches] == [False, False, True, True]
    one = batches[0]
    assert one.placed.interval is not None
    assert one.placed.interval[0] < one.placed.mean < one.placed.interval[1]
    assert one.numbered is not None
    assert one.gain is not None
    assert one.gain.mean == pytest.approx(one.placed.mean - one.numbered.mean)


def test_interval_is_students_over_windows() -> None:
    loads = drawn({"code": (80, CODE)})
    made = plan(loads, Layout(2, 2))
    one = by_windows(made)[1]
    values = np.array(
        [
            np.mean([load.mean() / load.max() for load in made.placement.loads(loads.counts_ULE[[unit]])[0]])
            for unit in np.flatnonzero(made.held_U)
        ]
    )
    reach = 2.0227 * values.std(ddof=1) / np.sqrt(40)  # t with 39 degrees
    assert one.placed.mean == pytest.approx(values.mean(), abs=1e-4)
    assert one.placed.interval == pytest.approx((values.mean() - reach, values.mean() + reach), abs=2e-4)


def test_batches_of_a_mix_are_thinned_to_it() -> None:
    """Half of both labels is held out, 60 and 60 documents; of 3 to 1, all of code and 20 of the letters are kept."""
    loads = drawn({"code": (120, CODE), "letters": (120, CODE[::-1])})
    windows = by_windows(plan(loads, Layout(2, 2), {"code": 0.75, "letters": 0.25}))
    assert windows[1].number == 80


def test_no_figure_by_number_where_experts_do_not_divide() -> None:
    made = plan(drawn({"code": (80, CODE)}), Layout(3, 2))
    assert by_layer(made)["numbered"].isnull().all()
    assert all(window.numbered is None and window.gain is None for window in by_windows(made))
