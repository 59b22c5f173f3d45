"""The description of one request field: its widget, its key in a URL and its option of the command line.

`RunRequest` declares each field with its description; `FIELDS` collects the descriptions. Code that draws widgets,
reads URLs or defines options loops over `FIELDS`, so a new field needs no other list.
"""

import dataclasses
from typing import Any

Value = str | bool | int | float


class RequestError(ValueError):
    """No run can satisfy the request; the message says what to change."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestField:
    """A field of a request. A visitor sets it with a widget or a link, a user of the command line with an option.

    Attributes:
        name: name of the field in `RunRequest`.
        default: value in a request that does not set the field; None for a text without a default.
        key: key of the widget, and of the value in a URL.
        label: label of the widget.
        help: help of the widget; `{high}` stands for the highest value.
        first: value on the first screen; None: `default`.
        low: lowest value of a number's widget.
        high: highest value of a number's widget; None if only the limits of the app apply.
        step: step of a number's widget.
        more: whether the widget is in the popover "More".
        option: option of the command line.
        option_help: help of the option; empty: `help`.
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
        """The type of the field's values: str, bool, int or float."""
        return str if self.default is None else type(self.default)

    def read(self, value: Any) -> Value:
        """Return the field's value from the value of a widget or from the text in a URL.

        Raises:
            ValueError: the text is not a number.
        """
        if self.kind is bool:
            return str(value).lower() == "true"
        return self.kind(value or "") if self.kind is str else self.kind(value)

    def write(self, value: Value) -> str:
        """Return the text of a value for a URL; a float keeps ten digits."""
        if self.kind is bool:
            return str(value).lower()
        return f"{value:.10g}" if self.kind is float else str(value)


def request_field(default: Value | None, **description: Any) -> Any:
    """Return a dataclass field with a default; `description` holds the other attributes of its `RequestField`."""
    return dataclasses.field(default=default, metadata={"default": default} | description)


def described_fields(request: type) -> dict[str, RequestField]:
    """Return the descriptions of the fields made by `request_field`, by name, in the order of the class."""
    return {
        field.name: RequestField(name=field.name, **field.metadata)
        for field in dataclasses.fields(request)
        if field.metadata
    }
