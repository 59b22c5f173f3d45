"""The error of the atlas, in a module of its own, because several parts raise it."""


class AtlasError(ValueError):
    """The folder holds no sweep, or tables that contradict each other; the message says which."""
