"""Checks at the door of the references."""

from typing import Any

import numpy as np

_FARTHEST = 1e5  # m; beyond that it is a mistake, and polynomials lose their digits


def finite(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return the value as an array of floats.

    Args:
        name: what the value is, as a sentence begins with it.
        value: number or nested sequence of numbers.
        shape: length of every axis, None where any length will do.

    Raises:
        ValueError: not numbers, of another shape, or not finite.
    """
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f'{name} must be numbers, got {value!r:.200}') from None
    wanted = ' x '.join('n' if length is None else str(length) for length in shape) or 'one number'
    if array.ndim != len(shape) or any(
        length is not None and length != got for length, got in zip(shape, array.shape, strict=True)
    ):
        got = ' x '.join(map(str, array.shape)) or 'one number'
        raise ValueError(f'{name} must have the shape {wanted}, got {got}')
    if not np.all(np.isfinite(array)):
        where = np.argwhere(~np.isfinite(array))[0]
        place = f' (first at {tuple(where.tolist())})' if array.ndim else ''
        raise ValueError(f'{name} must be finite numbers, got NaN or infinity{place}')
    return array


def place(name: str, value: Any, shape: tuple[int | None, ...] = (3,)) -> np.ndarray:
    """Return a position, or several, within 100 km of the origin; see `finite`."""
    array = finite(name, value, shape)
    if np.abs(array).max(initial=0.0) > _FARTHEST:
        raise ValueError(
            f'{name} must be within {_FARTHEST:g} m of the origin, got {np.abs(array).max():g} m'
        )
    return array


def positive(name: str, value: Any) -> float:
    """Return a finite number above 0 as a float; a ValueError says what else it was."""
    number = float(finite(name, value, ()))
    if number <= 0:
        raise ValueError(f'{name} must be greater than 0, got {number:g}')
    return number
