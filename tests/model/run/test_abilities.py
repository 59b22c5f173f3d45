"""An engine says what it can record and change, and why not the rest."""

import pytest

from model.run.abilities import Abilities, of_own_network
from model.run.interventions import BiasOff, KnockOut
from model.run.request import Capture, RequestError, RunRequest
from tests.models import tiny_config

SPARSE = {"model_type": "deepseek_v32", "index_heads": 4, "index_head_dim": 12, "index_topk": 6}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (RunRequest(prompt="a", capture=Capture(frozenset({"router", "indexer"}))), "no indexer here"),
        (RunRequest(prompt="a", interventions=(BiasOff(),)), "cannot do BiasOff"),
        (RunRequest(prompt="a", max_new_tokens=1), "for a prompt only"),
    ],
)
def test_what_is_missing_is_refused_with_its_reason(request_: RunRequest, message: str) -> None:
    able = Abilities(
        captures=frozenset({"router"}),
        interventions=frozenset({"KnockOut"}),
        new_tokens=False,
        missing={"indexer": "there is no indexer here", "new_tokens": "for a prompt only"},
    )
    with pytest.raises(RequestError, match=message):
        able.check(request_)
    able.check(RunRequest(prompt="a", interventions=(KnockOut(1, 2),)))


def test_the_own_network_records_the_parts_that_it_has() -> None:
    plain, sparse = (of_own_network(config, False) for config in (tiny_config(), tiny_config(has_mtp=True, **SPARSE)))
    assert plain.captures == {"router", "attention", "inputs", "logits"}
    assert sparse.captures == plain.captures | {"indexer", "drafts"}
    assert not of_own_network(tiny_config(), from_disk=True).new_tokens
