import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.atlas.folder import open_sweep
from model.atlas.rule import rule_of
from tests.sweeps import write_sweep

MINI = json.loads(Path("model/presets/mini-v3/config.json").read_text())


@pytest.mark.parametrize(
    ("config", "num_experts", "groups"),
    [(MINI, 32, (4, 2)), (MINI, 16, (1, 1)), ({}, 32, (1, 1)), (None, 32, (1, 1))],
    ids=["stated", "of other experts", "no configuration", "null"],
)
def test_rule_has_the_groups_of_the_configuration_only_if_it_fits(
    tmp_path: Path, config: Any, num_experts: int, groups: tuple[int, int]
) -> None:
    model = {"name": "x", "config": config, "layers": [1], "num_experts": num_experts, "top_k": 4}
    sweep = open_sweep(write_sweep(tmp_path, np.full((1, 1, num_experts), 4), 4, manifest={"model": model}))
    rule = rule_of(sweep)
    assert (rule.num_experts, rule.top_k) == (num_experts, 4)
    assert (rule.num_groups, rule.num_kept_groups) == groups
