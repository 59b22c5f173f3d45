"""What the app says of a model folder before anything of it is loaded: family, sizes, experts, and what a run records.

The numbers come from the configuration and the headers of the weight files. For a folder that transformers runs they
need torch, whose import takes seconds; a thread reads them, so that no page waits.
"""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from model.checkpoint.embedded import name_of
from model.run.abilities import of_own_network
from model.trace import kv_cache
from pages.common import jobs, models

if TYPE_CHECKING:
    from model.families.facts import Facts
    from model.network.config import ModelConfig

ONE_AT_A_TIME = threading.Lock()  # transformers builds one model at a time
CONFIG = "config.json"
_NO_WEIGHTS = "no weights, only config.json; nothing can be run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """One model folder; None where a number is not known.

    Attributes:
        family: the configuration's `model_type`, with that of the language model in brackets if it is another one.
        engine: what runs the folder.
        parameters: trained numbers in all, block scales and multi-token prediction left out.
        active: those that one token passes through.
        num_bytes: of the weight files.
        experts: numbers of experts in a block, in words.
        top_k: number of experts per token.
        recorded: what a run records.
        missing: what it does not record, and why; or why the folder cannot be opened.
        card: further lines for the sidebar.
    """

    family: str
    engine: str = ""
    parameters: int | None = None
    active: int | None = None
    num_bytes: int = 0
    experts: str = ""
    top_k: int | None = None
    recorded: str = ""
    missing: Sequence[str] = ()
    card: Sequence[str] = ()
    opens: bool = True

    @property
    def size(self) -> str | None:
        """The parameters in words; None if they are not known."""
        if self.parameters is None:
            return None
        active = "" if self.active is None else f", {self.active / 1e6:,.1f} M active"
        return f"{self.parameters / 1e6:,.1f} M parameters{active}"


class Described:
    """The description of a folder. A thread fills it in if that takes long."""

    def __init__(self, folder: Path) -> None:
        """Read the folder's facts, or start to read them."""
        self.folder, self.done, self.value = folder, threading.Event(), Description(family="")
        if models.config(folder) and not is_own(folder):
            threading.Thread(target=self._read, daemon=True).start()
        else:
            self._read()

    def _read(self) -> None:
        try:
            with ONE_AT_A_TIME:
                self.value = describe(self.folder)
        finally:
            self.done.set()


@st.cache_resource(show_spinner=False, max_entries=256)
def described(folder: Path) -> Described:
    """Return the description of a folder, which may still be on its way; it is read once per server."""
    return Described(folder)


def is_own(folder: Path) -> bool:
    """Return whether the own network runs a folder; False if its configuration cannot be read."""
    from model.network.config import MODEL_TYPES

    return models.config(folder).get("model_type") in MODEL_TYPES


def describe(folder: Path) -> Description:
    """Return the description of a folder. One that cannot be opened has the reason in place of the facts."""
    from model.checkpoint.header import read_json
    from model.checkpoint.layouts import no_config

    family = str(models.config(folder).get("model_type") or "not known")
    if not folder.is_dir():
        reason = f"{name_of(folder)!r} is not a folder; correct {models.VARIABLE} and start again"
        return Description(family=family, missing=(reason,), opens=False)
    try:
        with models.path_hidden(folder):
            if not (folder / CONFIG).exists() and (cause := no_config(folder)):
                return Description(family=family, missing=(f"{name_of(folder)} lacks {CONFIG}: {cause}",), opens=False)
            read_json(folder / CONFIG)
            return _own(folder) if is_own(folder) else _family(folder)
    except ValueError as error:
        return Description(family=family, missing=(str(error),), opens=False)
    except Exception as error:  # transformers raises errors of any kind about a configuration
        return Description(family=family, missing=(jobs.failure(error),), opens=False)


# --- the own network -------------------------------------------------------------------------------------------------


def _own(folder: Path) -> Description:
    from model.checkpoint import stored_parameters
    from model.checkpoint.names import mtp_prefix
    from model.network.config import ModelConfig

    config = ModelConfig.from_json(models.config(folder))
    total, of_experts = stored_parameters.count(folder, mtp_prefix(config))
    idle = of_experts * (config.num_experts - config.top_k) // max(1, config.num_experts)
    abilities = of_own_network(config, from_disk=False)
    names = {"indexer": config.is_sparse, "drafts": config.has_mtp}
    recorded = ["router", "attention", "inputs", *(name for name, has in names.items() if has), "logits"]
    return Description(
        family=config.model_type,
        engine="own network",
        parameters=total or None,
        active=total - idle if total else None,
        num_bytes=_bytes_of(folder),
        experts=f"{config.num_experts:,}",
        top_k=config.top_k,
        recorded=", ".join(recorded),
        missing=[f"{name}: {why}" for name, why in abilities.missing.items()] if total else (_NO_WEIGHTS,),
        card=_own_card(config),
        opens=bool(total),
    )


def _own_card(config: "ModelConfig") -> list[str]:
    cached = kv_cache.cache_bytes(config.to_json())[kv_cache.OWN]
    return [
        f"{cached:,} bytes of cache per token (bfloat16)",
        f"{config.num_layers} layers, the first {config.num_dense_layers} dense",
        f"{config.num_experts} experts in {config.num_groups} groups, {config.num_kept_groups} kept",
        f"{config.top_k} per token, {config.num_shared_experts} shared",
        f"{config.num_heads} heads, context {config.max_positions}",
    ]


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


# --- any other family ------------------------------------------------------------------------------------------------


def _family(folder: Path) -> Description:
    from model.families.facts import facts_of

    facts = facts_of(folder)
    wrapped = f" ({facts.text_type})" if facts.text_type != facts.model_type else ""
    idle = f", and {facts.num_idle:,} that compute nothing" if facts.num_idle else ""
    stored = facts.stored
    return Description(
        family=facts.model_type + wrapped,
        engine="transformers",
        parameters=facts.parameters,
        active=facts.active_parameters,
        num_bytes=stored.num_bytes if stored else 0,
        experts=f"{facts.num_experts:,}{idle}",
        top_k=facts.top_k,
        recorded=facts.recorded,
        missing=[*facts.unrecorded, *facts.notes] if stored else (_NO_WEIGHTS,),
        card=_family_card(facts),
        opens=stored is not None,
    )


def _family_card(facts: "Facts") -> list[str]:
    cache, moe = facts.cache, len(set(facts.block_layers))
    kept = f", {cache.windowed * 2:,} more within {cache.window:,} tokens" if cache and cache.windowed else ""
    lines = [f"{cache.growing * 2:,} bytes of cache per token (bfloat16){kept}"] if cache else []
    groups = f" in {facts.groups[0]} groups, {facts.groups[1]} kept" if facts.groups else ""
    heads = "" if facts.num_heads is None else f"{facts.num_heads} heads, "
    return [
        *lines,
        f"{facts.num_layers} layers, {moe} of them MoE layers",
        f"{facts.num_experts:,} experts{groups}",
        f"{'?' if facts.top_k is None else facts.top_k} per token, run by transformers",
        f"{heads}context {'not stated' if facts.context is None else facts.context}",
    ]
