"""Measure the audit of the weights of a made-up checkpoint of full width: memory, bytes read, and time.

The checkpoint is that of `tests.benchmarks.disk`: about 12 GB, written once into a folder and removed at the end.

    python -m tests.benchmarks.doctor [FOLDER]
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.benchmarks.disk import FREE_BYTES, forget, kernel_bytes, plain_reading, write_checkpoint


def measure(folder: Path) -> None:
    """Measure an audit and a plain reading of the same bytes, in a process of its own, whose peak is the audit's."""
    from model.checkpoint.files import ModelFolder
    from model.doctor.weights import examine_weights

    with ModelFolder(folder) as opened:
        size = sum(stored.num_bytes for stored in opened.tensors.values())
    forget(folder)
    read_by_us, before, began, busy = 0, kernel_bytes(), time.perf_counter(), time.process_time()

    def tell(progress: object) -> None:
        nonlocal read_by_us
        read_by_us = progress.bytes_read  # type: ignore[attr-defined]

    report = examine_weights(folder, tell)
    seconds, core_seconds, read = time.perf_counter() - began, time.process_time() - busy, kernel_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    click.echo(f"{len(report.made)} checks, {len(report.findings)} findings")
    click.echo(f"  peak resident memory   {peak / 2**30:6.2f} GiB")
    click.echo(f"  bytes read             {read_by_us / 1e9:6.2f} GB of {size / 1e9:.2f} GB: {read_by_us / size:.4f}x")
    click.echo(f"  read by the kernel     {read / 1e9:6.2f} GB: {read / size:.3f}x")
    click.echo(f"  time                   {seconds:6.1f} s, {core_seconds:.1f} core-seconds")
    forget(folder)
    click.echo(f"  plain reading          {plain_reading(folder, size):6.1f} s")


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--measure-only", is_flag=True, hidden=True)
def main(folder: Path | None, measure_only: bool) -> None:
    """Write the checkpoint below FOLDER (default: the system's temporary folder), measure, and remove it."""
    if measure_only:
        assert folder is not None
        return measure(folder)
    parent = folder or Path(tempfile.gettempdir())
    if shutil.disk_usage(parent).free < FREE_BYTES:
        return click.echo(f"skipped: {parent} has less than {FREE_BYTES / 1e9:.0f} GB free")
    with tempfile.TemporaryDirectory(dir=parent) as made:
        write_checkpoint(Path(made))
        subprocess.run([sys.executable, "-m", "tests.benchmarks.doctor", made, "--measure-only"], check=True)
    return None


if __name__ == "__main__":
    main()
