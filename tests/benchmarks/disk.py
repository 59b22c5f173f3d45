"""Measure a run from disk on a made-up checkpoint of full width: memory, bytes read, time against plain reading.

The checkpoint is 7,168 wide with 256 experts, block FP8, one dense layer, one MoE layer and a vocabulary of 8,192:
about 12 GB, written once into a folder and removed at the end. Its files leave the page cache before each measurement.

    python -m tests.benchmarks.disk [FOLDER]
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.fp8 import QUANTIZATION, grid
from model.checkpoint.names import Slot, scale_name, slots
from model.network.config import ModelConfig

NUM_TOKENS = 64
FREE_BYTES = 20e9
EXPERTS_PER_FILE = 32

CONFIG = ModelConfig(
    vocab_size=8192, hidden_size=7168, num_layers=2, num_dense_layers=1, num_heads=128, q_lora_rank=1536,
    kv_lora_rank=512, nope_head_dim=128, rope_head_dim=64, value_head_dim=128, dense_width=18432, expert_width=2048,
    num_experts=256, num_shared_experts=1, top_k=8, num_groups=8, num_kept_groups=4, normalise_weights=True,
    routed_scale=2.5, max_positions=4096,
)  # fmt: skip


def tensors_of(slot: Slot, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Yield random tensors of a slot; matrices are FP8 with scales, except embedding, head and router."""
    plain = ("embed_tokens", "lm_head", "mlp.gate.", "norm")
    if len(slot.shape) < 2 or any(part in slot.published for part in plain):
        dtype = torch.float32 if slot.is_expert_bias else torch.bfloat16
        yield slot.published, torch.randn(slot.shape, generator=generator).mul_(0.02).to(dtype)
        return
    content = torch.randint(0, 256, slot.shape, dtype=torch.uint8, generator=generator)
    yield slot.published, content.bitwise_and_(0b1011_1111).view(torch.float8_e4m3fn)  # below 2, and never NaN
    yield scale_name(slot.published), torch.full(grid(slot.shape), slot.shape[1] ** -0.5)


def write_checkpoint(folder: Path) -> None:
    """Write config, index and shards: one shard per 32 experts, and one for everything else."""
    generator, weight_map = torch.Generator().manual_seed(0), {}
    shards: dict[int, list[Slot]] = {}
    for slot in slots(CONFIG):
        shards.setdefault(0 if slot.expert is None else 1 + slot.expert // EXPERTS_PER_FILE, []).append(slot)
    for number, members in sorted(shards.items()):
        name = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = {n: tensor for slot in members for n, tensor in tensors_of(slot, generator)}
        save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG.to_json() | {"quantization_config": QUANTIZATION}))


def forget(folder: Path) -> None:
    """Remove the folder's files from the page cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def kernel_bytes() -> int:
    """Return the bytes that this process read from storage, as the kernel counts them."""
    return int(Path("/proc/self/io").read_text().split("read_bytes:")[1].split()[0])


def measure(folder: Path, dtype: str) -> None:
    """Measure a run and a plain reading of the same tensors, in a separate process whose peak memory is the run's."""
    from model.run.engine import Engine, spare_cores
    from model.run.request import RunRequest

    spare_cores(1)  # as the command line does
    ids = torch.randint(2, CONFIG.vocab_size, (NUM_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    engine = Engine.from_disk(folder, device="cpu", dtype=dtype)
    assert engine.disk is not None
    forget(folder)
    before, began = kernel_bytes(), time.perf_counter()
    trace = engine.run(RunRequest(token_ids=tuple(ids)))
    seconds, read = time.perf_counter() - began, kernel_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    needed = engine.disk.weights.tensors.bytes_read
    hit = len(set(trace.data["expert_id"].values.flat))
    click.echo(f"{dtype}: {NUM_TOKENS} tokens, {hit} of {CONFIG.num_experts} experts hit")
    click.echo(f"  peak resident memory   {peak / 2**30:6.2f} GiB")
    click.echo(f"  read by the kernel     {read / 1e9:6.2f} GB, needed {needed / 1e9:.2f} GB: {read / needed:.3f}x")
    forget(folder)
    plain = plain_reading(folder, needed)
    rate = f"{needed / seconds / 1e9:.2f} against {needed / plain / 1e9:.2f} GB/s"
    click.echo(
        f"  time                   {seconds:6.2f} s, plain reading {plain:.2f} s: {seconds / plain:.2f}x ({rate})"
    )


def plain_reading(folder: Path, size: int) -> float:
    """Return the seconds to read `size` bytes of the folder's files, one after the other in large pieces."""
    buffer, left, began = memoryview(bytearray(1 << 25)), size, time.perf_counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while left > 0 and (got := file.readinto(buffer[: min(left, len(buffer))])):
                left -= got
    return time.perf_counter() - began


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--dtypes", default="float32", show_default=True)
@click.option("--measure-only", is_flag=True, hidden=True)
def main(folder: Path | None, dtypes: str, measure_only: bool) -> None:
    """Write the checkpoint below FOLDER (default: the system's temporary folder), measure, and remove it."""
    if measure_only:
        assert folder is not None
        return measure(folder, dtypes)
    parent = folder or Path(tempfile.gettempdir())
    if shutil.disk_usage(parent).free < FREE_BYTES:
        return click.echo(f"skipped: {parent} has less than {FREE_BYTES / 1e9:.0f} GB free")
    with tempfile.TemporaryDirectory(dir=parent) as made:
        write_checkpoint(Path(made))
        for dtype in dtypes.split(","):
            command = [sys.executable, "-m", "tests.benchmarks.disk", made, "--dtypes", dtype, "--measure-only"]
            subprocess.run(command, check=True)
    return None


if __name__ == "__main__":
    main()
