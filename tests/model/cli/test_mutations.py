"""Damaged and hostile checkpoints, traces, imports and prompts through the commands that read them.

Each ends with status 0, 1 or 2 and at most one error line: no traceback, no warning, not above 10 s or 1.5 GB, no file
left behind. `CLI_MUTATIONS=5000 pytest -n0 tests/model/cli/test_mutations.py` tries more than the usual few; a failure
names the mutation, and `CLI_MUTATION="trace 17"` runs it alone.
"""

import json
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint.weights import save_model
from model.cli.main import main
from model.run.engine import Engine
from model.run.request import Capture, RunRequest
from model.trace.file import dumps
from model.trace.imports import FORMATS
from model.train.data.bpe import train_vocabulary
from tests import engines
from tests.engines import as_json
from tests.model.doctor.checkpoints import sparse_config
from tests.models import random_model, tiny_config
from tests.mutations import HOSTILE, mutated, of_bytes, of_header, of_tree
from tests.traces import random_trace

NUMBER = int(os.environ.get("CLI_MUTATIONS", "120"))
ALONE = os.environ.get("CLI_MUTATION", "")
MOST_SECONDS, MOST_BYTES = 10, 1_500_000_000
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Arguments = list[str | Path]


class Hang(BaseException):
    """A command that does not end."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Healthy folders and files that are mutated, or used beside a mutated one."""
    root = tmp_path_factory.mktemp("bases")
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "single": (tiny_config(), {}),
        "shards": (tiny_config(), {"max_shard_bytes": 300_000}),
        "sparse": (sparse_config(), {}),
        "fp8": (tiny_config(), {"fp8_scales": torch.float32}),
    }
    for name, (config, options) in kinds.items():
        save_model(random_model(config), root / name, torch.float32 if name != "fp8" else torch.bfloat16, **options)
        train_vocabulary(["The wolf saw the moon.\n"] * 9, 280, show_progress=False).save(
            str(root / name / "tokenizer.json")
        )
        stated = {"bos_token_id": 0, "eos_token_id": 1}
        (root / name / "generation_config.json").write_text(json.dumps(stated))
        (root / name / "tokenizer_config.json").write_text(json.dumps(stated | {"chat_template": "{{ messages }}"}))
    everything = Capture(frozenset({"router", "attention", "logits", "inputs"}))
    run = Engine.load(root / "single").run(RunRequest(token_ids=(0, 7, 8, 9), max_new_tokens=2, capture=everything))
    (root / "run").write_bytes(dumps(run))
    (root / "random").write_bytes(dumps(random_trace(drafts=True)))
    ids = engines.random_ids()
    answers = {
        "vllm": engines.vllm_lists(ids),
        "sglang": engines.sglang_generate(ids),
        "openai": engines.sglang_openai(ids),
    }
    answers |= {"npy": engines.vllm_npy(ids), "dump": engines.recorder_dump(ids)}
    for name, answer in answers.items():
        (root / name).write_bytes(as_json(answer))
    (root / "csv").write_bytes(engines.moe_trace(ids))
    (root / "logits").write_bytes(engines.router_logits(np.random.default_rng(0).normal(size=(6, 4, 16)).astype("f4")))
    (root / "prompts").write_text('{"text": "The moon"}\n{"ids": [3, 4, 5]}\n')
    (root / "text").write_text("The wolf saw the moon.")
    return {path.name: path for path in root.iterdir()}


def spoil_in_place(path: Path, rng: random.Random) -> None:
    """Replace a file by something that is no such file."""
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/full", "nowhere", path.name)))
    elif kind == 3:
        path.touch()
    elif kind == 4:
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")


def poison(content: bytes, rng: random.Random) -> bytes:
    """Fill a stretch of the data of a safetensors file with NaN, infinities, zeros or noise."""
    start = 8 + int.from_bytes(content[:8], "little")
    if start >= len(content) - 4:
        return content
    at = start + 4 * rng.randrange((len(content) - start) // 4)
    length = min(4 * rng.choice((1, 64, 5_000)), len(content) - at) // 4 * 4
    value = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"\0\0\0\0", b"\xff\xff\x7f\x7f", rng.randbytes(4)))
    return content[:at] + value * (length // 4) + content[at + length :]


def spoil(path: Path, rng: random.Random) -> None:
    content, kind = path.read_bytes(), rng.random()
    if kind < 0.08:
        spoil_in_place(path, rng)
    elif path.suffix == ".safetensors":
        path.write_bytes(rng.choice((of_header, poison, poison, of_bytes))(content, rng))
    elif path.name == "tokenizer.json" and kind < 0.6:
        published = json.loads(content)
        published["model"] |= {"vocab": {}} if kind < 0.1 else {}
        part = rng.choice([name for name in published if name != "model"])
        path.write_bytes(as_json(published | {part: of_tree(published[part], rng)}))
    else:
        path.write_bytes(mutated(content, rng))


def of_checkpoint(bases: dict[str, Path], work: Path, rng: random.Random) -> Arguments:
    folder = work / "model"
    shutil.copytree(bases[rng.choice(("single", "single", "shards", "sparse", "fp8"))], folder)
    names = sorted(path.name for path in folder.iterdir())
    number = rng.choice((1, 1, 1, 2))
    for name in sorted({rng.choice([*names, "config.json", "config.json", "tokenizer.json"]) for _ in range(number)}):
        spoil(folder / name, rng)
    out, ids = work / "out", ["--ids", "0,7,8,9"]
    trace: Arguments = ["trace", folder, "--out", out, "--new-tokens", "2"]
    return rng.choice(
        (
            ["info", folder],
            [*trace, *ids],
            [*trace, "--prompt", "The wolf", "--capture", "router,attention,indexer,inputs,logits,drafts"],
            [*trace, "--prompt", "<｜User｜>", "--parse-special"],
            ["trace", folder, "--out", out, "--stream", *ids],
            ["doctor", folder, "--weights-only"],
            ["doctor", folder, "--weights-only", "--json"],
            ["doctor", folder, "--prompts", bases["prompts"], "--html", out],
            ["doctor", folder, "--reference", bases["run"]],
            ["compare", folder, bases["run"], "--json"],
            ["compare", bases["single"], folder, *ids],
            ["import", bases["vllm"], "--model", folder, "--out", out],
            ["import", bases["logits"], "--model", folder, "--out", out],
        )
    )


def of_trace(bases: dict[str, Path], work: Path, rng: random.Random) -> Arguments:
    original = bases[rng.choice(("run", "run", "random"))]
    path, other = work / "trace.safetensors", rng.choice((original, original, bases["run"]))
    path.write_bytes(original.read_bytes())
    if rng.random() < 0.7:
        path.write_bytes(of_metadata(path.read_bytes(), rng))
    else:
        spoil(path, rng)
    return rng.choice(
        (
            ["compare", path, other],
            ["compare", other, path, "--json"],
            ["compare", path, path],
            ["compare", path, other, "--json", "--fail-above", "changed-share=0.1"],
            ["import", path, "--out", work / "out"],
            ["doctor", bases["single"], "--reference", path],
            ["trace", bases["single"], "--ids", "0,7,8,9,5,5", "--replay", path, "--out", work / "out"],
            ["compare", path, bases["single"]],
        )
    )


def of_metadata(content: bytes, rng: random.Random) -> bytes:
    """Change values of the JSON texts in a trace's metadata, or axes and labels."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    stated = header["__metadata__"]
    name = rng.choice(("coords", "tokens", "request", "model", "model", "model", "origin", "dims"))
    value = json.loads(stated[name])
    if name == "model" and rng.random() < 0.8:
        value["config"][rng.choice(sorted(value["config"]))] = rng.choice(HOSTILE)
    elif name == "origin" and rng.random() < 0.5:
        value["kind"] = rng.choice(("imported", "measured", *HOSTILE))
    else:
        value = of_tree(value, rng)
    stated[name] = json.dumps(value)
    if rng.random() < 0.2:
        del header[rng.choice([key for key in header if key != "__metadata__"])]
    text = json.dumps(header).encode()
    return poison(len(text).to_bytes(8, "little") + text + content[8 + size :], rng)


def of_import(bases: dict[str, Path], work: Path, rng: random.Random) -> Arguments:
    path = work / "answer"
    path.write_bytes(bases[rng.choice(("vllm", "sglang", "openai", "npy", "dump", "csv", "logits"))].read_bytes())
    spoil(path, rng)
    arguments: Arguments = ["import", path, "--out", work / "out"]
    if rng.random() < 0.9:
        arguments += ["--model", bases["single"]]
    if rng.random() < 0.3:
        arguments += ["--format", rng.choice(FORMATS)]
    if rng.random() < 0.3:
        request = work / "request"
        request.write_bytes(as_json(of_tree({"prompt": "a", "token_ids": [[1], [2]]}, rng)))
        arguments += ["--request", request]
    return arguments


def of_prompts(bases: dict[str, Path], work: Path, rng: random.Random) -> Arguments:
    path = work / "prompts"
    path.write_bytes(bases["prompts"].read_bytes())
    spoil(path, rng)
    return rng.choice(
        (
            ["doctor", bases["single"], "--prompts", path, "--json"],
            ["trace", bases["single"], "--prompt-file", path, "--out", work / "out"],
            ["compare", bases["single"], bases["run"], "--prompt-file", path],
        )
    )


KINDS: dict[str, tuple[int, Callable[[dict[str, Path], Path, random.Random], Arguments]]] = {
    "checkpoint": (5, of_checkpoint),
    "trace": (3, of_trace),
    "import": (1, of_import),
    "prompts": (1, of_prompts),
}  # the first number is the share in tenths


@contextmanager
def ending(seconds: int) -> Iterator[None]:
    def hang(number: int, frame: object) -> None:
        raise Hang

    previous = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def peak_bytes() -> int:
    """Return the peak since `forget_peak`; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def listing(work: Path) -> set[Path]:
    return set(work.rglob("*"))


def faults_of(arguments: Arguments, work: Path) -> list[str]:
    """Run a command, and return what is wrong with how it ended."""
    before, began = listing(work), time.monotonic()
    forget_peak()
    with warnings.catch_warnings(record=True) as caught, ending(3 * MOST_SECONDS):
        warnings.simplefilter("always")
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    seconds, peak = time.monotonic() - began, peak_bytes()
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    found = [f"status {result.exit_code}: {errors or result.exception!r}"] if result.exit_code not in (0, 1, 2) else []
    if result.exit_code == 2 and len(errors) != 1:
        found.append(f"no single error: {result.stderr[-300:]!r}")
    if "a fault of this program" in result.output and result.exit_code != 3:
        found.append(f"a stage failed: {result.output[-300:]}")
    if "Traceback" in result.output:
        found.append("a traceback")
    if errors and len(errors[-1]) > 1500:
        found.append(f"a line of {len(errors[-1])} characters")
    found += [f"a warning: {one.message}" for one in caught]
    if seconds > MOST_SECONDS:
        found.append(f"took {seconds:.0f} s")
    if peak > MOST_BYTES:
        found.append(f"took {peak / 1e6:.0f} MB")
    out, partial = work / "out", work / "out.partial"
    allowed = {out} if result.exit_code in (0, 1) else set()
    allowed |= {partial, *partial.glob("*")} if f"note: {partial} keeps " in result.stderr else set()
    left = {path.name for path in listing(work) - before - allowed}
    return [*found, f"left {sorted(left)}"] if left else found


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="needs signals and pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_every_mutation_ends_in_one_line(kind: str, bases: dict[str, Path], tmp_path: Path) -> None:
    share, make = KINDS[kind]
    faults: list[str] = []
    for number in range(NUMBER * share // 10):
        if ALONE and f"{kind} {number}" != ALONE:
            continue
        rng, work = random.Random(f"{kind} {number}"), tmp_path / "work"
        work.mkdir()
        arguments = make(bases, work, rng)
        faults += [f"{kind} {number}: {' '.join(map(str, arguments))}: {fault}" for fault in faults_of(arguments, work)]
        if not ALONE:
            shutil.rmtree(work)
    assert not faults, "\n".join(faults)
