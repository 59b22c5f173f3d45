"""Which parameters of a model learn."""

from collections.abc import Sequence

from torch import nn

from model.network.transformer import Transformer
from model.train.config import TrainConfigError


def freeze(model: nn.Module, pieces: Sequence[str]) -> list[nn.Parameter]:
    """Freeze the parameters whose names contain one of the pieces, and give those that learn, in order.

    Raises:
        TrainConfigError: a piece is in no name, or nothing is left to learn.
    """
    named = dict(model.named_parameters())
    for piece in pieces:
        found = [parameter for name, parameter in named.items() if piece in name]
        if not found:
            raise TrainConfigError(f"frozen: no parameter has {piece!r} in its name; one is {next(iter(named))}")
        for parameter in found:
            parameter.requires_grad_(False)
    learning = [parameter for parameter in named.values() if parameter.requires_grad]
    if not learning:
        raise TrainConfigError("frozen leaves nothing to learn")
    return learning


def freeze_all_but(model: Transformer, piece: str) -> Transformer:
    """Let the parameters learn whose names contain a piece, and freeze all others; return the model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(piece in name)
    return model.eval()


def freeze_indexers(model: Transformer) -> Transformer:
    """Let every parameter learn but the indexers'; return the model, in training mode."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".indexer." not in name)
    return model.train()
