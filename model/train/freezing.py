"""Functions that freeze parameters of a model, chosen by name."""

from collections.abc import Sequence

from torch import nn

from model.network.transformer import Transformer
from model.train.config import TrainConfigError


def freeze(model: nn.Module, pieces: Sequence[str]) -> list[nn.Parameter]:
    """Freeze the parameters whose names contain one of `pieces`; return the parameters left to train, in order.

    Raises:
        TrainConfigError: a piece is in no parameter's name, or no parameter is left to train.
    """
    named = dict(model.named_parameters())
    for piece in pieces:
        matches = [parameter for name, parameter in named.items() if piece in name]
        if not matches:
            raise TrainConfigError(f"frozen: no parameter has {piece!r} in its name; one is {next(iter(named))}")
        for parameter in matches:
            parameter.requires_grad_(False)
    trainable = [parameter for parameter in named.values() if parameter.requires_grad]
    if not trainable:
        raise TrainConfigError("frozen leaves no parameter to train; name fewer")
    return trainable


def freeze_all_but(model: Transformer, piece: str) -> Transformer:
    """Freeze the parameters whose names do not contain `piece`; return the model in evaluation mode."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(piece in name)
    return model.eval()


def freeze_indexers(model: Transformer) -> Transformer:
    """Freeze the parameters of the indexers, and no others; return the model in training mode."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".indexer." not in name)
    return model.train()
