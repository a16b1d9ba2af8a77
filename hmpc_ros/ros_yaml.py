"""YAML as ROS 2 nodes read it: the numbers of rcl's parser, and nothing that can grow or run.

rcl tries a plain scalar as truth value, as integer of C (``strtol``, so 010 is 8), as double of C
(``strtod``, so 1e-1 is a number, which it is not in YAML 1.1); else it is text. Quoted, it is text.
Source: ``get_value`` in rcl_yaml_param_parser/src/parse.c.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import yaml

# The longest file of parameters here has some kB, 300 learned weights have 7, a path of a thousand
# waypoints 30. With libyaml, 100 kB of the densest YAML are read within a second.
MOST_BYTES = 100_000
MOST_DEPTH = 20
_TRUE = frozenset({'Y', 'y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'})
_FALSE = frozenset({'N', 'n', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'})
_INTEGER = re.compile(r'[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)')
_DECIMAL = re.compile(r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?')
_HEXADECIMAL = re.compile(
    r'[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?'
)
_NOT_FINITE = re.compile(r'[+-]?(inf|infinity|nan(\([0-9A-Za-z_]*\))?)', re.IGNORECASE)
_DOTTED = re.compile(r'[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)')
_LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class YamlError(ValueError):
    """A text is not YAML of the kind that is read here; the message says where and why."""


def read(text: str) -> Any:
    """Return the value of a YAML text: mappings with text as keys, lists, and ROS's scalars.

    Raises:
        YamlError: it is no YAML, is too long or nested too deeply, has an anchor, an alias, a tag
            or a second document.
    """
    if len(text) > MOST_BYTES:
        raise YamlError(f'it has {len(text)} characters; {MOST_BYTES} are allowed')
    try:
        return _read(text)
    except yaml.YAMLError as error:
        raise YamlError(str(error)) from error


def write(document: Any) -> str:
    """Return the YAML text that `read` and ROS 2 read as this value of plain values."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def _read(text: str) -> Any:
    """Build the value event by event: no recursion, and nothing is made of what is refused."""
    root: list[Any] = []
    open_: list[Any] = [root]  # the list or mapping that is being filled, innermost last
    keys: list[Any] = [None]  # the key of it that waits for its value
    for event in yaml.parse(text, Loader=_LOADER):
        where = f'line {event.start_mark.line + 1}' if event.start_mark else 'somewhere'
        if isinstance(event, yaml.AliasEvent) or getattr(event, 'anchor', None):
            raise YamlError(f'{where}: anchors and aliases (& and *) are not allowed')
        if getattr(event, 'tag', None) not in (None, '!'):
            raise YamlError(f'{where}: tags (!) are not allowed')
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise YamlError(f'{where}: a second document begins')
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
            keys.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        into = open_[-1]
        awaits_key = isinstance(into, dict) and keys[-1] is None
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            # A plain scalar alone may be resolved; keys are text, as in ROS.
            value = event.value if awaits_key or event.style else scalar(event.value)
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
            if awaits_key:
                raise YamlError(f'{where}: a name must be text')
            if len(open_) > MOST_DEPTH:
                raise YamlError(f'{where}: nested more than {MOST_DEPTH} deep')
            open_.append(value)
            keys.append(None)
        if awaits_key:
            keys[-1] = value
        elif isinstance(into, dict):
            level = -2 if value is open_[-1] else -1
            into[keys[level]] = value
            keys[level] = None
        else:
            into.append(value)
    return root[0] if root else None


def scalar(text: str) -> bool | int | float | str | None:
    """Return what a plain scalar means to ROS 2; None for nothing at all."""
    if not text:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        digits = text.lstrip('+-')
        base = 16 if digits[:2] in ('0x', '0X') else 8 if digits[0] == '0' else 10
        # What does not fit a double either is text, as to C; the length spares the conversion.
        whole = int(text, base) if len(digits) <= 30 else 2**63
        if -(2**63) <= whole < 2**63:
            return whole
    if _NOT_FINITE.fullmatch(text) or _DOTTED.fullmatch(text):
        return math.nan if 'nan' in text.lower() else float(text.replace('.', ''))
    try:
        if _DECIMAL.fullmatch(text):
            number = float(text)
        elif _HEXADECIMAL.fullmatch(text):
            number = float.fromhex(text)
        else:
            return text
    except OverflowError:
        return text
    # C reports a range error beyond the normal numbers, and ROS keeps such a scalar as text.
    exact_zero = number == 0 and not re.search('[1-9a-fA-F]', re.split('[eEpP]', text)[0])
    normal = sys.float_info.min <= abs(number) < math.inf
    return number if normal or exact_zero else text


class _Dumper(yaml.SafeDumper):
    """Quotes each text that ROS would read as something else, and writes no aliases."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """Return the tag that a reader would give a node."""
        if kind is yaml.ScalarNode and implicit[0]:
            types = {bool: 'bool', int: 'int', float: 'float', str: 'str', type(None): 'null'}
            return f'tag:yaml.org,2002:{types[type(scalar(value))]}'
        return super().resolve(kind, value, implicit)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write everything in full."""
        return True
