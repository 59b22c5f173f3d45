"""The configuration and headers of a model that transformers runs, before its tensors are read."""

import collections
from collections.abc import Iterator

from model.checkpoint.files import ModelFolder
from model.checkpoint.header import CheckpointError
from model.checkpoint.names import is_quantisation, scaled_weight
from model.doctor import manifest, other_files
from model.doctor.findings import ERROR, NOTE, Check, Finding
from model.doctor.packed import scales_of
from model.doctor.reading import Headers, is_read
from model.families.blocks import structure_of
from model.families.folder import read_skeleton
from model.families.places import places_of, structure
from model.families.published import Published, read_published

STAGE = "weights"
_NOT_LOADED = "transformers cannot load the model, or would make up values. Take a complete checkpoint."
_NO_CONFIG = (
    "compares keys of DeepSeek's configurations with tensors; in this family transformers compares names and shapes, "
    "see manifest"
)


def family_headers(folder: ModelFolder) -> Headers:
    """Return what configuration and headers of a folder show.

    Raises:
        CheckpointError: transformers has no model for the configuration, or the model has no experts.
    """
    published = read_published(folder)
    model = structure(published)
    blocks = structure_of(model).blocks
    if not blocks:
        raise CheckpointError(
            f"{folder.path}: no layer of {published.config['model_type']!r} hands a router's selection to experts, so "
            "there is no routing to audit"
        )
    findings = [*_refusal(folder, published), *_unread(folder)]
    model_type, count = published.config["model_type"], f"{len(folder.tensors):,} tensors"
    checks = [
        Check(manifest.CONFIG, STAGE, "", skipped=_NO_CONFIG),
        Check(manifest.NAME, STAGE, f"names and shapes of {count} against the {model_type} of transformers"),
        Check(other_files.NAME, STAGE, "tensors in several files"),
    ]
    return Headers(places_of(folder, model), checks, findings, is_own=False)


def _refusal(folder: ModelFolder, published: Published) -> Iterator[Finding]:
    """Yield an error if transformers would not load the tensors, and a note on those that it leaves out."""
    try:
        _, notes = read_skeleton(folder, published)
    except CheckpointError as problem:
        what = f"the model cannot be loaded: {str(problem).removeprefix(f'{folder.path}: ')}"
        yield Finding(ERROR, manifest.NAME, what, _NOT_LOADED, {})
        return
    for note in notes:
        yield Finding(NOTE, manifest.NAME, note, "The rest of the model is not affected.", {})


def _unread(folder: ModelFolder) -> Iterator[Finding]:
    """Yield a note on packed weights that are not measured: those in any form but MXFP4."""
    measured = {scales for name in folder.tensors if (scales := scales_of(folder.tensors, name))}
    packed = [
        name
        for name, stored in folder.tensors.items()
        if not is_read(folder, name)
        and scaled_weight(name) not in folder.tensors
        and name not in measured
        and (stored.dtype == "U8" or is_quantisation(name))
    ]
    if packed:
        dtypes = collections.Counter(folder.tensors[name].dtype for name in packed)
        what = f"{len(packed):,} packed tensors are not measured ({', '.join(dtypes)}), the first is {packed[0]}"
        meaning = "Checks of experts leave them out. Convert the checkpoint to bfloat16 to audit every weight."
        yield Finding(NOTE, manifest.NAME, what, meaning, {"tensors": len(packed)})
