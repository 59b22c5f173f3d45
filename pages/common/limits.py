"""The limits of the app. A page that reaches a limit says so, and keeps what the visitor typed or ran.

An environment variable changes a limit: `MOE_LOUPE_NEW_TOKENS=1024` sets `NEW_TOKENS`.
"""

import os

from model.run.request_fields import RequestField

REFUSED: list[str] = []  # one error per variable that is not a valid limit; the app shows them instead of its pages


def _cap(name: str, usual: int, least: int = 1) -> int:
    """Return the limit that the environment sets, else `usual`.

    If the value is no whole number of at least `least`, add an error to `REFUSED` and return `usual`.
    """
    value = os.environ.get(f"MOE_LOUPE_{name}", "") or str(usual)
    if value.isdecimal() and int(value) >= least:
        return int(value)
    REFUSED.append(f"MOE_LOUPE_{name} is {value!r:.40}; give a whole number from {least:,} on, or leave it out")
    return usual


PROMPT_CHARACTERS = _cap("PROMPT_CHARACTERS", 20_000)
PROMPT_TOKENS = _cap("PROMPT_TOKENS", 8_192)
LINK_CHARACTERS = _cap("LINK_CHARACTERS", 2_000)  # a longer prompt is left out: servers refuse longer addresses
NEW_TOKENS = _cap("NEW_TOKENS", 256)
CONCURRENT_RUNS = _cap("CONCURRENT_RUNS", 4)  # large ones, which may hold a model each; further ones wait
ATTENTION_WEIGHTS = _cap("ATTENTION_WEIGHTS", 6_000_000)  # per run; above it, pages compute one head at a time
HEAD_TOKENS = _cap("HEAD_TOKENS", 8_192)  # longest text whose heads are computed after the run
ROLLOUT_TOKENS = _cap("ROLLOUT_TOKENS", 1_024)
EXPERIMENT_LOGITS = _cap("EXPERIMENT_LOGITS", 2**25)  # tokens x vocabulary entries that are compared: 134 MB per run
IMPORTANCE_TOKENS = _cap("IMPORTANCE_TOKENS", 256)  # longest text of an importance map
KEPT_EXPERIMENTS = _cap("KEPT_EXPERIMENTS", 6)  # per session
UPLOAD_BYTES = _cap("UPLOAD_BYTES", 64 * 2**20, 2**20)
KEPT_TRACES = _cap("KEPT_TRACES", 32)
KEPT_SECONDS = _cap("KEPT_SECONDS", 600)  # that a closed tab's run can be found again by a reload
KEPT_BYTES = _cap("KEPT_BYTES", 256 * 2**20)  # of all closed tabs' traces
KEPT_MODELS = _cap("KEPT_MODELS", 2)
APART_BYTES = _cap("APART_BYTES", 2**30, 0)  # largest weights that a second process loads too; 0: no second process
ROOMS = _cap("ROOMS", 50)
ROOM_STUDENTS = _cap("ROOM_STUDENTS", 100)  # of a room
ROOM_SECONDS = _cap("ROOM_SECONDS", 4 * 3600)  # after which a room closes
SPARED_CORES = _cap("SPARED_CORES", 1, 0)  # left free for the server and for a browser on the same machine


def highest(field: RequestField) -> float | None:
    """Return the highest value of a request field's widget; None for a field that is not a number."""
    return NEW_TOKENS if field.name == "max_new_tokens" else field.high
