"""Damaged and hostile files of every format: read, or refused by our own error, within seconds.

`IMPORT_MUTATIONS=20000 pytest tests/model/trace/imports/test_mutations.py` tries more than the usual few hundred.
"""

import os
import random
import time
from collections.abc import Callable

import numpy as np
import pytest

from model.trace import file
from model.trace.imports import AUTO, FORMATS
from model.trace.imports.building import Named
from model.trace.imports.count_formats import read_counts
from model.trace.imports.formats import read
from model.trace.trace import TraceError
from tests import engines
from tests.engines import CONFIG, as_json, npy
from tests.mutations import mutated, of_tree
from tests.traces import random_trace

NUMBER = int(os.environ.get("IMPORT_MUTATIONS", "600"))
MOST_SECONDS = 5
IDS = engines.random_ids()
NAMED = Named("tiny", CONFIG, bias=lambda layer: np.zeros(16, np.float32))
CACHED = {"usage": engines.usage() | {"prompt_tokens_details": {"cached_tokens": 3}}}
SEEDS: dict[str, Callable[[], bytes]] = {
    "moe-loupe": lambda: file.dumps(random_trace()),
    "vllm lists": lambda: as_json(engines.vllm_lists(IDS)),
    "vllm npy": lambda: as_json(engines.vllm_npy(IDS[3:]) | CACHED),
    "bare npy": lambda: npy(IDS.astype("uint8")),
    "sglang native": lambda: as_json(
        {"request": {"text": "a", "routed_experts_start_len": 0}, "response": engines.sglang_generate(IDS)}
    ),
    "sglang openai": lambda: as_json(engines.sglang_openai(IDS)),
    "recorder": lambda: as_json(engines.recorder_dump(IDS)),
    "router logits": lambda: engines.router_logits(np.random.default_rng(0).normal(size=(6, 4, 16)).astype("f4")),
    "llama.cpp": lambda: engines.moe_trace(IDS),
    "colibri": lambda: engines.route_trace(IDS, np.random.default_rng(1).random(IDS.shape)),
}


@pytest.mark.parametrize("name", SEEDS)
def test_every_mutation_is_read_or_refused_in_one_line(name: str, recwarn: pytest.WarningsRecorder) -> None:
    """The whole loop draws from one seed; a failure names the mutation."""
    original = SEEDS[name]()
    read(original, AUTO, NAMED)
    faults: list[str] = []
    for number in range(NUMBER // len(SEEDS) + 1):
        rng = random.Random(f"{name} {number}")
        content, start = mutated(original, rng), time.process_time()
        form = AUTO if rng.random() < 0.6 else rng.choice(FORMATS)
        request = rng.choice((None, None, as_json(of_tree({"prompt": "a", "token_ids": [[1], [2]]}, rng))))
        try:
            trace = read(content, form, NAMED if rng.random() < 0.9 else None, request, rng.choice((0, 0, 1, 7)))
            file.dumps(trace)
        except TraceError as error:
            if "\n" in str(error) or len(str(error)) > 500:
                faults.append(f"{number}: no short line: {str(error)[:200]!r}")
        except Exception as error:  # noqa: BLE001 - this is what the test looks for
            faults.append(f"{number} as {form}: {type(error).__name__}: {str(error)[:200]}")
        if time.process_time() - start > MOST_SECONDS:
            faults.append(f"{number} took {time.process_time() - start:.0f} s")
    assert faults == []
    assert [str(warning.message) for warning in recwarn.list] == []


COUNTS = np.random.default_rng(1).integers(1, 50, (4, 16))
COUNT_SEEDS: dict[str, Callable[[], bytes]] = {
    "usage": lambda: engines.usage_history(COUNTS),
    "imatrix": lambda: engines.imatrix(COUNTS),
    "stat": lambda: as_json({"logical_count": np.pad(COUNTS, ((1, 0), (0, 0)))[None].tolist()}),
}


@pytest.mark.parametrize("name", COUNT_SEEDS)
def test_every_mutation_of_counts_is_read_or_refused_in_one_line(name: str) -> None:
    original = COUNT_SEEDS[name]()
    read_counts(original, NAMED)
    faults: list[str] = []
    for number in range(NUMBER // 6):
        content, start = mutated(original, random.Random(f"{name} {number}")), time.process_time()
        try:
            assert read_counts(content, NAMED).extent()
        except TraceError as error:
            if "\n" in str(error) or len(str(error)) > 500:
                faults.append(f"{number}: no short line: {str(error)[:200]!r}")
        except Exception as error:  # noqa: BLE001 - this is what the test looks for
            faults.append(f"{number}: {type(error).__name__}: {str(error)[:200]}")
        if time.process_time() - start > MOST_SECONDS:
            faults.append(f"{number} took {time.process_time() - start:.0f} s")
    assert faults == []
