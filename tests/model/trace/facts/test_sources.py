import dataclasses

import pytest

from model.trace.facts.facts import FACTS, facts_of
from model.trace.facts.sources import FactError, Sources
from tests.model.trace.facts.hand_made import hand_made


def test_every_fact_has_a_name_of_its_own_and_a_docstring() -> None:
    modules = {function.__module__ for function in FACTS.values()}
    assert len(modules) == 7
    assert all(function.__doc__ and function.__doc__.startswith("Return ") for function in FACTS.values())
    assert len({function.__qualname__ for function in FACTS.values()}) == len(FACTS)


def test_facts_read_the_given_run() -> None:
    facts = facts_of(Sources(hand_made()))
    assert facts["tokens"]() == 4
    assert facts["expert"](1, 1, 2) == 3


def test_a_missing_source_is_one_line_that_says_what_to_do() -> None:
    trace = hand_made()
    facts = facts_of(Sources(dataclasses.replace(trace, data=trace.data.drop_vars("attention"))))
    for call, message in (
        (lambda: facts["splits"](), "open the Compare page"),
        (lambda: facts["effect"](), "press Run on the Counterfactual page"),
        (lambda: facts["collapsed"]("A"), "press Train A on the Collapse page"),
        (lambda: facts["index_top_k"](), "has no indexer"),
        (lambda: facts["sinks"](1), "did not record attention"),
        (lambda: facts["parameters"](), "sizes of models are not known"),
        (lambda: facts["expert"](4, 1), "no token 4"),
        (lambda: facts["expert"](1, 0), "layer 0 is no layer with experts"),
        (lambda: facts["affinity"](1, 1, 8), "no expert 8"),
        (lambda: facts["expert"](1, 1, 4), "none has rank 4"),
        (lambda: facts["line_tokens"](3), "no line 3"),
        (lambda: facts["position"]("wolf"), "does not hold 'wolf'"),
    ):
        with pytest.raises(FactError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
