"""The error of traces, in a module of its own, because the parts of a trace raise it too."""


class TraceError(ValueError):
    """The data is no trace, or contradicts itself; the message says which part."""
