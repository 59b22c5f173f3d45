"""Routes one shard after another; a plain loop and a pool of workers use the same class."""

from model.sweep.settings import Settings, Summary


class Sweeper:
    """A loaded model that routes shards and writes their parts.

    Attributes:
        settings: the planned sweep.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the model.

        Raises:
            ValueError, OSError: the model cannot be loaded.
        """
        self.settings = settings

    def route(self, shard: int) -> Summary:
        """Route the documents of a shard, write its part under a temporary name, rename it, and return a summary.

        A document that fails is listed in the part with its reason.

        Raises:
            OSError: the part cannot be written, as on a full disk; no part is left.
        """
        raise NotImplementedError
