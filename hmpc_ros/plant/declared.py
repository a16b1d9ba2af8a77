"""Dataclass fields that say what they mean, so that configuration need not say it again."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def about(
    text: str,
    unit: str = '',
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    any_length: bool = False,
) -> dict[str, Any]:
    """Return the metadata of a field that is a parameter as well.

    Args:
        text: what it is, for ``ros2 param describe``.
        unit: SI unit, empty if it has none.
        low: smallest allowed value, inclusive; of every entry of a list.
        high: largest allowed value, inclusive.
        choices: the allowed strings, empty for any.
        any_length: whether a list may have another length than its default, none included.
    """
    return {
        'text': text, 'unit': unit, 'low': low, 'high': high, 'choices': tuple(choices),
        'any_length': any_length,
    }  # fmt: skip


def parameter(default: Any, text: str, *range_: Any, **more: Any) -> Any:
    """Return a field with a default that is a parameter as well; arguments as of `about`."""
    return field(default=default, metadata=about(text, *range_, **more))
