"""Values that people and clients send, read by pydantic: switches, numbers, and in words what is wrong with one.

All that depends on how pydantic 2 describes fields and errors stands here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from brats_clip.errors import InputError
from brats_clip.switches import read_switch

A_TEXT = "a text"
_WORDS = {"1": "true", "yes": "true", "0": "false", "no": "false"}


def switch(value: Any) -> bool:
    """A switch: True or False, or a word for them as command lines and panels write it.

    Raises:
        ValueError: saying what is expected.
    """
    word = value.strip().lower() if isinstance(value, str) else value
    try:
        return read_switch("", _WORDS.get(word, word) if isinstance(word, str) else word)
    except InputError:
        raise ValueError("true or false") from None


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take True for 1
        raise PydanticCustomError("number_expected", "a switch is no number")
    return value


Switch = Annotated[bool, BeforeValidator(switch)]
Whole = Annotated[int, BeforeValidator(_no_switch)]
Real = Annotated[float, BeforeValidator(_no_switch), Field(allow_inf_nan=False)]


class Wrong(NamedTuple):
    """A value that cannot be used: of which field, what was found, and what is expected."""

    name: str
    value: Any
    expected: str

    @property
    def found(self) -> str:
        """The value as an error shows it; where a text was expected, its type."""
        return type(self.value).__name__ if self.expected == A_TEXT else repr(str(self.value)[:40])


def fields_of(model: type) -> dict[str, FieldInfo]:
    """The fields of a pydantic model or dataclass by name."""
    return model.__pydantic_fields__


def first_wrong(model: type, error: ValidationError) -> Wrong:
    """The first value that ``model`` refused; what is expected comes from a validator's ``ValueError`` or the field."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    is_ours = first["type"] == "value_error"
    expected = str(first["ctx"]["error"]) if is_ours else _expected(fields_of(model)[name])
    return Wrong(name, first["input"], expected)


def nearest(name: str, known: Iterable[str]) -> str:
    """The name that was probably meant; "" if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def _expected(field: FieldInfo) -> str:
    """What a field takes, from its type and its bounds: ``a whole number from 1 to 1000``, say."""
    bounds = {}
    for constraint in field.metadata:
        for kind in ("ge", "gt", "le", "lt", "multiple_of"):
            if getattr(constraint, kind, None) is not None:
                bounds[kind] = f"{getattr(constraint, kind):g}"
    if {"ge", "le"} <= bounds.keys():
        expected = (
            f"{'a whole number' if field.annotation is int else 'a number'} from {bounds['ge']} to {bounds['le']}"
        )
    else:
        words = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
        within = " and ".join(f"{word} {bounds[kind]}" for kind, word in words if kind in bounds)
        expected = f"a number, {within}" if within else "a number" if field.annotation in (int, float) else A_TEXT
    return f"{expected}, divisible by {bounds['multiple_of']}" if "multiple_of" in bounds else expected
