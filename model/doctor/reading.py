"""Reads every tensor of a folder, layer by layer, and measures it; several threads measure at the same time.

A `Layout` says what each tensor is: published names say so in the families of the own network
(`model/checkpoint/names.py`), the structure of the model in all others (`model/families/places.py`).
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from model.checkpoint.disk import DiskTensors
from model.checkpoint.files import ModelFolder
from model.checkpoint.header import READABLE_DTYPES, SCALED_DTYPE, CheckpointError
from model.checkpoint.names import EMBEDDING, Place, place_of, scale_name, scaled_weight
from model.doctor.findings import Check, Finding
from model.doctor.packed import BLOCK, scales_of, unpack
from model.doctor.tensors import Scanned, scan, scan_experts

_AT_ONCE = 2  # tensors that are measured in parallel


class Stopped(CheckpointError):
    """The audit was stopped; the message says after how many tensors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the first stage of an audit, which reads every weight."""

    done: int  # number of measured tensors
    count: int  # number of all tensors
    bytes_read: int

    @property
    def share(self) -> float:
        """The share of tensors that are measured."""
        return self.done / max(1, self.count)


Layout = Mapping[str, Place]  # published name of each tensor -> its place


@dataclasses.dataclass(frozen=True, slots=True)
class Headers:
    """What the configuration and the headers of a folder show, before a tensor is read."""

    layout: Layout
    checks: list[Check]
    findings: list[Finding]
    is_own: bool  # whether the own network runs the model: then the affinities of its router are at most 1


def own_layout(folder: ModelFolder) -> Layout:
    """Return the layout that the published names of the own network's families state."""
    return {name: place_of(name) for name in folder.tensors}


def layers(
    folder: ModelFolder, layout: Layout, on_progress: Callable[[Progress], None], cancel: threading.Event | None
) -> Iterator[tuple[int | None, list[Scanned]]]:
    """Yield the statistics of every readable tensor, layer by layer.

    The embedding comes before the layers; other tensors outside the layers come after them.
    """
    names = sorted((name for name in folder.tensors if is_read(folder, name)), key=lambda name: _order(name, layout))
    disk = DiskTensors(folder)
    measured: list[Scanned] = []
    try:
        with contextlib.closing(_scans(folder, layout, disk, names)) as scans:  # ends all threads before the disk
            for done, tensors in enumerate(scans, 1):
                if measured and measured[-1].place.layer != tensors[0].place.layer:
                    yield measured[-1].place.layer, measured
                    measured = []
                measured += tensors
                on_progress(Progress(done, len(names), disk.bytes_read))
                if cancel is not None and cancel.is_set():
                    raise Stopped(f"stopped after {done:,} of {len(names):,} tensors")
        if measured:
            yield measured[-1].place.layer, measured
    finally:
        disk.forget()
        disk.close()


def _scans(
    folder: ModelFolder, layout: Layout, disk: DiskTensors, names: list[str]
) -> Generator[list[Scanned], None, None]:
    """Yield the statistics of each tensor in turn; of each expert, where a tensor holds several."""
    disk.announce(names)
    waiting: collections.deque[Future[list[Scanned]]] = collections.deque()
    with ThreadPoolExecutor(_AT_ONCE, "measure") as pool:
        try:
            for name in names:
                waiting.append(pool.submit(_scan, folder, layout[name], disk, name))
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _scan(folder: ModelFolder, place: Place, disk: DiskTensors, name: str) -> list[Scanned]:
    stored, scale = folder.tensors[name], None
    raw = disk.raw(name)
    if scales := scales_of(folder.tensors, name):
        experts = zip(raw, disk.raw(scales), strict=True)
        shape = (stored.shape[1], stored.shape[2] * BLOCK)
        one = dataclasses.replace(stored, shape=shape, num_bytes=stored.num_bytes // len(raw))
        return [
            scan(one, dataclasses.replace(place, expert=expert, stacked=0), unpack(*both), None)
            for expert, both in enumerate(experts)
        ]
    if stored.dtype == SCALED_DTYPE and not folder.problem(name):
        scale = disk.raw(scale_name(name))
    if place.stacked and stored.dtype != SCALED_DTYPE and raw.numel():
        return scan_experts(stored, place, raw)
    return [scan(stored, place, raw, scale)]


def is_read(folder: ModelFolder, name: str) -> bool:
    """Whether a tensor is measured on its own; block scales are read together with their weights."""
    dtype = folder.tensors[name].dtype
    if scales_of(folder.tensors, name):
        return True
    return (dtype in READABLE_DTYPES or dtype == SCALED_DTYPE) and scaled_weight(name) not in folder.tensors


def _order(name: str, layout: Layout) -> tuple[int, int, str, int]:
    """Return the key that sorts tensors: embedding, layers with their experts, the rest, as in most files."""
    place = layout[name]
    if place.layer is None:
        return (0 if name == EMBEDDING else 2, 0, name, 0)
    return (1, place.layer, "" if place.expert is None else "experts", place.expert or 0)
