"""The description of one request field: its widget, its key in an address and its option of the command line.

The descriptions stand beside the fields themselves, in `RunRequest`; `FIELDS` collects them. Whoever draws a widget,
reads an address or defines an option loops over `FIELDS`, so that a new field needs no other list.
"""

import dataclasses
from typing import Any

Value = str | bool | int | float


class RequestError(ValueError):
    """No run can satisfy the request; the message says what to change."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestField:
    """A field of a request that a visitor sets by a widget or a link, and a user of the command line by an option.

    Attributes:
        name: name of the field in `RunRequest`.
        default: value of a run that does not set it; None for a text without a default.
        key: key of the widget, and of the value in an address.
        label: label of the widget.
        help: help of the widget; `{high}` stands for the highest value.
        first: value on the first screen, if not `default`.
        low: lowest value of a number's widget.
        high: highest value of a number's widget; None where only the app sets a cap.
        step: step of a number's widget.
        more: whether the widget is in the popover "More".
        option: option of the command line.
        option_help: help of the option, if not `help`.
        option_range: lowest and highest whole number of the option; `RunRequest` checks all other limits.
        samples: whether the field decides how a token is drawn.
    """

    name: str
    default: Value | None
    key: str
    label: str
    help: str = ""
    first: Value | None = None
    low: float = 0
    high: float | None = None
    step: float = 1
    more: bool = False
    option: str
    option_help: str = ""
    option_range: tuple[int, int | None] = (0, None)
    samples: bool = False

    @property
    def kind(self) -> type:
        """The type of its values: str, bool, int or float."""
        return str if self.default is None else type(self.default)

    def read(self, value: Any) -> Value:
        """Convert a widget's value, or the text in an address.

        Raises:
            ValueError: the text is not a number.
        """
        if self.kind is bool:
            return str(value).lower() == "true"
        return self.kind(value or "") if self.kind is str else self.kind(value)

    def write(self, value: Value) -> str:
        """Return the text in an address; floats keep ten digits."""
        if self.kind is bool:
            return str(value).lower()
        return f"{value:.10g}" if self.kind is float else str(value)


def request_field(default: Value | None, **description: Any) -> Any:
    """Return a dataclass field with a default, and with the other attributes of its `RequestField`."""
    return dataclasses.field(default=default, metadata={"default": default} | description)


def described_fields(request: type) -> dict[str, RequestField]:
    """Return the description of every field that was made by `request_field`, by name, in the order of the class."""
    return {
        field.name: RequestField(name=field.name, **field.metadata)
        for field in dataclasses.fields(request)
        if field.metadata
    }
