"""Counts of selected experts that another program kept: without tokens, texts or documents.

Counts are no trace: no page can show the routing of a token from them. The same counts come from one long document or
from many short ones, so nothing says how far they would spread over other texts.
"""

import dataclasses

import numpy as np
import xarray as xr

from model.trace import metrics
from model.trace.imports.building import Named
from model.trace.trace import TraceError


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """How often each expert was selected.

    Attributes:
        windows: selections, int64 [window, moe_layer, expert]; windows follow each other in time, and a program that
            keeps one total has one window.
        named: the model that was run.
        program: name of the program that counted.
        form: format of the file.
        notes: notes on what limits the counts.
    """

    windows: xr.DataArray
    named: Named
    program: str
    form: str
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> xr.DataArray:
        """Selections over all windows, [moe_layer, expert]."""
        return self.windows.sum("window")

    @property
    def num_tokens(self) -> int | None:
        """The number of tokens in the layer that counts most; None if its selections are no multiple of top-k."""
        most, top_k = int(self.total.sum("expert").max()), self.named.shape.top_k
        return most // top_k if most % top_k == 0 else None

    def measures(self) -> xr.Dataset:
        """Return measures of each layer: `selections`, `busiest` expert, `max_violation`, `entropy`, `dead` experts."""
        total = self.total
        return xr.Dataset(
            {
                "selections": total.sum("expert"),
                "busiest": total.argmax("expert"),
                "max_violation": metrics.max_violation(total),
                "entropy": metrics.normalised_entropy(total),
                "dead": metrics.dead_experts(total).sum("expert"),
            }
        )

    def extent(self) -> str:
        """Return what was counted, in the words of pages and commands.

        For example: "counts of 4,096 tokens, spread unknown".
        """
        if self.num_tokens is None:
            return f"counts of {int(self.total.sum('expert').max()):,} selections in a layer, spread unknown"
        return f"counts of {self.num_tokens:,} tokens, spread unknown"


def counted(by_layer: dict[int, np.ndarray], named: Named, program: str, form: str, notes: list[str]) -> Counts:
    """Return the counts of a model, after checks.

    Args:
        by_layer: counts by the model's layer number, [window, expert] each.
        named: the model that was run.
        program: name of the program that counted.
        form: format of the file.
        notes: notes on what limits the counts.

    Raises:
        TraceError: the counts do not fit the model's layers and experts, or a layer counts nothing.
    """
    shape = named.shape
    for layer, counts in by_layer.items():
        if layer not in shape.moe_layers and counts.any():
            raise TraceError(
                f"the file counts experts in L{layer}; the model named has them in L{shape.moe_layers[0]} to "
                f"L{shape.moe_layers[-1]}"
            )
        if counts.shape[-1] != shape.num_experts:
            raise TraceError(
                f"the file counts {counts.shape[-1]} experts in L{layer}, the model named has {shape.num_experts} "
                "(another model, or physical ids of redundant experts?)"
            )
    silent = [layer for layer in shape.moe_layers if layer not in by_layer or not by_layer[layer].any()]
    if silent:
        raise TraceError(f"the file counts nothing in L{silent[0]}: its routing was not recorded there")
    windows = np.stack([by_layer[layer] for layer in shape.moe_layers], axis=1).astype(np.int64)
    windows = windows[windows.any((1, 2))]
    dims, coords = ("window", "moe_layer", "expert"), {"moe_layer": list(shape.moe_layers)}
    return Counts(
        xr.DataArray(windows, coords, dims), named, program, form, (*notes, *_uneven(windows, shape.moe_layers))
    )


def _uneven(windows_WLE: np.ndarray, layers: tuple[int, ...]) -> list[str]:
    """Return a note if layers differ in their number of selections, which whole tokens cannot cause."""
    totals_L = windows_WLE.sum((0, 2))
    fewest = int(totals_L.argmin())
    if totals_L[fewest] == totals_L.max():
        return []
    return [
        f"L{layers[fewest]} counts {int(totals_L[fewest]):,} selections, another layer {int(totals_L.max()):,}: not "
        "every token was counted in every layer"
    ]
