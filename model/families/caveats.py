"""Families that transformers computes in a way that a reader of a trace does not expect, by model type.

Other parts handle what needs no list. Opening a folder restores a selection bias that loading overwrites (Zaya),
refuses models whose experts receive no selection (Doge), and tries a pass if weights are on the disk (DBRX and JetMoe
fail). The engine always passes position ids, because MiniMax counts positions wrongly without them. It feeds the prompt
in one pass and then one token at a time, because Jamba computes other numbers in a later pass of several tokens.
Measured with transformers 5.23.
"""

from collections.abc import Collection

from model.checkpoint.header import CheckpointError

# Model type -> why its weights must not wait on the disk, where a pass succeeds all the same.
_NOT_FROM_DISK = {"longcat_flash": "its logits then differ from pass to pass"}
_NOTES = {
    "inkling2_text": "the final norm of inkling2 reads several layers, not only the residual stream of the last one",
    "unlimited_ocr": "unlimited_ocr attends to the whole prompt, but only to a window of the generated tokens",
}


def caveats(model_types: Collection[str], from_disk: bool) -> tuple[str, ...]:
    """Return notes for the user on the model types of a folder, one sentence each.

    Args:
        model_types: the model type of the folder, and that of its language model.
        from_disk: whether some weights wait on the disk between forward passes.

    Raises:
        CheckpointError: transformers computes wrong numbers for this family with weights on the disk.
    """
    for model_type in model_types if from_disk else ():
        if model_type in _NOT_FROM_DISK:
            raise CheckpointError(
                f"{model_type!r} cannot compute with its weights on the disk ({_NOT_FROM_DISK[model_type]}); free "
                "memory, or use a narrower dtype, so that they fit in it"
            )
    return tuple(_NOTES[model_type] for model_type in sorted(set(model_types)) if model_type in _NOTES)
