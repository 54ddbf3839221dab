"""A check that what was read from JSON has the expected form."""

from collections.abc import Mapping
from typing import Any

Form = Any
"""What a value must be:

- a type or a union of types, as int, str | None; float takes whole numbers too, and no number is
  a truth value
- [form]: a list of any length whose elements have a form
- (form, form): a list of that length
- {"name": form, "other?": form}: a mapping with these names, of which other may be missing
- {"*": form}: a mapping with any names
"""


def check_form(value: object, form: Form, name: str) -> None:
    """Raise a ValueError that names the first part of a value that has not the form.

    >>> check_form({"sizes": [3, 4.5]}, {"sizes": [int]}, "blocks")
    Traceback (most recent call last):
    ValueError: blocks.sizes[1] is 4.5: must be int
    """
    if isinstance(form, list):
        elements = _check_list(value, name)
        for i, element in enumerate(elements):
            check_form(element, form[0], f"{name}[{i}]")
    elif isinstance(form, tuple):
        elements = _check_list(value, name)
        if len(elements) != len(form):
            raise ValueError(f"{name} has {len(elements)} elements: must have {len(form)}")
        for i, (element, element_form) in enumerate(zip(elements, form, strict=True)):
            check_form(element, element_form, f"{name}[{i}]")
    elif isinstance(form, Mapping):
        _check_mapping(value, form, name)
    else:
        allowed = form | int if form is float else form
        if not isinstance(value, allowed) or (
            isinstance(value, bool) and form not in (bool, object)
        ):
            text = form.__name__ if isinstance(form, type) else str(form)
            raise ValueError(f"{name} is {_short(value)}: must be {text}")


def _check_list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is {_short(value)}: must be a list")
    return value


def _check_mapping(value: object, form: Mapping[str, Form], name: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {_short(value)}: must be a mapping")
    if "*" in form:
        for key, element in value.items():
            check_form(element, form["*"], f"{name}.{key}")
        return
    names = {key.removesuffix("?") for key in form}
    for key in value:
        if key not in names:
            raise ValueError(f"{name}.{key} is unknown: must be one of {', '.join(sorted(names))}")
    for key, element_form in form.items():
        own_name = key.removesuffix("?")
        if own_name in value:
            check_form(value[own_name], element_form, f"{name}.{own_name}")
        elif own_name == key:
            raise ValueError(f"{name} lacks {key}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
