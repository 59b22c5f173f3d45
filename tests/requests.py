"""Values of request fields, from their descriptions alone, so that a test covers a new field without knowing it."""

from hypothesis import strategies as st

from model.run.request_fields import RequestField, Value


def values(field: RequestField) -> st.SearchStrategy[Value]:
    """Values that the field's widget accepts; floats have at most ten digits, as an address keeps them."""
    if field.kind is str:
        return st.text(min_size=1, max_size=50)
    if field.kind is bool:
        return st.booleans()
    high = 99 if field.high is None else field.high
    if field.kind is int:
        return st.integers(int(field.low), int(high))
    return st.decimals(str(field.low), str(high), places=3).map(float)


def other_value(field: RequestField) -> Value:
    """A value that is neither the default of a run nor the value on the first screen."""
    return {str: "The sun", bool: not field.default, int: 3, float: 0.25}[field.kind]
