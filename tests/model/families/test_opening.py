"""Threads that read folders at once leave the classes of transformers as they were."""

import sys
import threading
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from model.checkpoint.header import CheckpointError
from model.families.facts import facts_of
from model.families.opening import turn
from model.families.stored import LoadingStopped
from tests.families import saved

FAMILIES = ("qwen3_moe", "mixtral", "zaya")


def test_classes_of_transformers_are_put_back() -> None:
    folders, before, interval = (
        [saved(family) for family in FAMILIES],
        dict(vars(PreTrainedModel)),
        sys.getswitchinterval(),
    )
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=facts_of, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert dict(vars(PreTrainedModel)) == before


def test_waiting_ends_after_a_time_or_on_request() -> None:
    held, done, cancelled = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with turn(Path("first")):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    cancelled.set()
    try:
        with pytest.raises(CheckpointError, match="while another model is being loaded; try again"):
            facts_of(saved("qwen3_moe"), most_seconds=0)
        with pytest.raises(LoadingStopped, match="second was stopped before its turn"), turn(Path("second"), cancelled):
            pass
    finally:
        done.set()
        thread.join()
