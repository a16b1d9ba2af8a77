"""What a parameter is: its type, default, range and meaning, and how a value is checked."""

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

Value = bool | int | float | str | list


@dataclass(frozen=True)
class Parameter:
    """A parameter as the user sees it.

    Attributes:
        lower, upper: smallest and largest allowed value, inclusive; of every entry of a list.
    """

    name: str  #: dotted name, as in ``policy.q``
    default: Any  #: the default; its type is the parameter's type (a list: that of its entries)
    description: str  #: one sentence for ``ros2 param describe``
    unit: str = ''  #: SI unit, empty if it has none
    lower: float | None = None
    upper: float | None = None
    length: int | None = None  #: number of entries of a list; None for any number
    choices: tuple[str, ...] = ()  #: the allowed strings, empty for any
    read_only: bool = False  #: fixed once the node has started
    #: an empty list stands for a computed value (which one: see the description)
    may_be_empty: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the parameter holds several values."""
        return isinstance(self.default, (list, tuple))

    @property
    def entry_type(self) -> type:
        """Type of the value, or of a list's entries."""
        if self.is_list:
            return type(self.default[0]) if self.default else float
        return type(self.default)

    def validate(self, value: Any) -> Value:
        """Return the value in the parameter's own type.

        An integer is taken for a float; nothing else is converted, clamped or guessed.

        Raises:
            ValueError: the value is refused; the message says what is allowed.
        """
        if not self.is_list:
            return self._entry(value)
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise ValueError(f'{self.name} needs a list, got {value!r}')
        entries = list(value)
        if self.may_be_empty and not entries:
            return []
        if self.length is not None and len(entries) != self.length:
            raise ValueError(f'{self.name} needs {self.length} values, got {len(entries)}')
        return [self._entry(entry) for entry in entries]

    def _entry(self, value: Any) -> Any:
        expected: Any = self.entry_type
        if hasattr(value, 'item'):  # a numpy scalar
            value = value.item()
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not expected:
            raise ValueError(f'{self.name} needs {_TYPE_NAMES[expected]}, got {value!r}')
        if expected is float and not math.isfinite(value):
            raise ValueError(f'{self.name} must be finite, got {value}')
        if expected is int and not -(2**63) <= value < 2**63:
            raise ValueError(f'{self.name} must fit into 64 bits, got {value}')
        unit = f' {self.unit}' if self.unit else ''
        if self.lower is not None and value < self.lower:
            raise ValueError(f'{self.name} must be at least {self.lower:g}{unit}, got {value}')
        if self.upper is not None and value > self.upper:
            raise ValueError(f'{self.name} must be at most {self.upper:g}{unit}, got {value}')
        if self.choices and value not in self.choices:
            choices = ', '.join(self.choices)
            raise ValueError(f"{self.name} must be one of {choices}; got '{value}'")
        return value


_TYPE_NAMES = {bool: 'true or false', int: 'an integer', float: 'a number', str: 'a text'}

#: A parameter that nothing changes once the node has started.
fixed = functools.partial(Parameter, read_only=True)


def table(*parameters: Parameter) -> dict[str, Parameter]:
    """Return the parameters by name."""
    return {parameter.name: parameter for parameter in parameters}


def declared(
    kind: type,
    prefix: str,
    whose: str = '',
    read_only: bool = True,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    **changes: Mapping[str, Any],
) -> tuple[Parameter, ...]:
    """Declare the fields of a dataclass that say what they are (`plant.declared.about`).

    Args:
        kind: the dataclass; its defaults are the parameters'.
        prefix: of their names.
        whose: beginning of their descriptions.
        read_only: whether they are fixed once the node has started.
        defaults: of fields that have none or another one, by the field's name.
        changes: what else a field cannot know of its parameter, by the field's name.
    """
    return tuple(
        replace(_declared(field, prefix, whose, read_only, defaults), **changes.get(field.name, {}))
        for field in fields(kind)
        if 'text' in field.metadata
    )


def _declared(
    field: Field, prefix: str, whose: str, read_only: bool, defaults: Mapping[str, Any]
) -> Parameter:
    about = field.metadata
    made: Any = field.default
    if field.name in defaults:
        made = defaults[field.name]
    elif field.default_factory is not MISSING:
        made = field.default_factory()
    default: Any = made.tolist() if hasattr(made, 'tolist') else made
    if isinstance(default, (list, tuple)):
        default = list(default)
        if about.get('size') == 1:
            default = default[0]
    is_list = isinstance(default, list)
    free = about['any_length']
    return Parameter(
        prefix + field.name,
        default,
        f'{whose}{about["text"]}',
        about['unit'],
        about['low'],
        about['high'],
        length=len(default) if is_list and not free else None,
        choices=about['choices'],
        read_only=read_only,
        may_be_empty=is_list and free,
    )


def validate_all(declared: dict[str, Parameter], values: dict[str, Any]) -> dict[str, Value]:
    """Return the whole set of values of a node: the defaults, overridden by ``values``.

    Raises:
        ValueError: a name is not declared, or a value is refused.
    """
    unknown = [name for name in values if name not in declared]
    if unknown:
        close = closest(unknown[0], declared)
        raise ValueError(f"there is no parameter '{unknown[0]}'{close}")
    merged = {name: parameter.default for name, parameter in declared.items()} | values
    return {name: declared[name].validate(value) for name, value in merged.items()}


def closest(name: str, declared: Iterable[str]) -> str:
    """Return a question after the name that was meant, as the end of a sentence; or nothing."""
    matches = difflib.get_close_matches(name, list(declared), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ''
