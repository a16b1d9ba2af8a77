"""Linear time-invariant prediction model of the vehicle, in deviations from hover at the goal."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hmpc_ros import disk

_ARRAYS = {'A': (None, None), 'B': (None, None), 'c': (None,), 'hover_input': (None,)}


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The model ``x+ = A x + B u + c`` in deviations (x from the goal, u from hover).

    Raises:
        ValueError: an array has the wrong shape or is not finite, or the time step is not positive.
    """

    A: np.ndarray  #: (nx, nx)
    B: np.ndarray  #: (nx, nu), per rad/s of rotor speed
    c: np.ndarray  #: (nx,) one-step drift at the goal under the hover input
    time_step: float  #: [s]
    hover_input: np.ndarray  #: rotor speeds (nu,) [rad/s] that ``u`` is the deviation from

    def __post_init__(self) -> None:
        """Take private read-only copies and check them."""
        for name in ('A', 'B', 'c', 'hover_input'):
            array = np.array(getattr(self, name), dtype=float, order='C')
            if not np.all(np.isfinite(array)):
                raise ValueError(f'linear model: {name} has entries that are not finite')
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        nx, nu = self.B.shape if self.B.ndim == 2 else (-1, -1)
        if self.A.shape != (nx, nx) or self.c.shape != (nx,) or self.hover_input.shape != (nu,):
            raise ValueError(
                f'linear model: shapes do not fit: A {self.A.shape}, B {self.B.shape}, '
                f'c {self.c.shape}, hover_input {self.hover_input.shape}'
            )
        if not self.time_step > 0:
            raise ValueError(f'linear model: time_step = {self.time_step} s must be positive')

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that tell this model from every other one."""
        digest = hashlib.sha256()
        for array in (self.A, self.B, self.c, self.hover_input, np.array([self.time_step])):
            digest.update(np.ascontiguousarray(array, dtype='<f8').tobytes())
        return digest.hexdigest()[:12]

    @property
    def entries(self) -> np.ndarray:
        """A, B and c, each row by row, as one vector (nx (nx + nu + 1),)."""
        return np.concatenate((self.A.ravel(), self.B.ravel(), self.c))

    def with_entries(self, entries: Sequence[float] | np.ndarray) -> 'LinearModel':
        """Return the model of these `entries`, of the same time step and about the same hover.

        Raises:
            ValueError: there are too few or too many, or one is not finite.
        """
        nx, nu = self.B.shape
        numbers = np.asarray(entries, dtype=float)
        if numbers.shape != (nx * (nx + nu + 1),):
            raise ValueError(f'linear model: {nx * (nx + nu + 1)} entries, not {numbers.size}')
        A, B, c = np.split(numbers, (nx * nx, nx * (nx + nu)))
        return replace(self, A=A.reshape(nx, nx), B=B.reshape(nx, nu), c=c)

    def same_as(self, other: 'LinearModel') -> bool:
        """Say whether another model predicts the same, to the last bit."""
        return self is other or (
            np.array_equal(self.A, other.A)
            and np.array_equal(self.B, other.B)
            and np.array_equal(self.c, other.c)
            and np.array_equal(self.hover_input, other.hover_input)
        )

    def predict(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Return the next state deviation (..., nx) for deviations x (..., nx), u (..., nu)."""
        return x @ self.A.T + u @ self.B.T + self.c

    def jacobians_along(
        self, states: np.ndarray, inputs: np.ndarray  # noqa: ARG002
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return A (T, nx, nx) and B (T, nx, nu): the same ones at every point of a flight."""
        steps = len(inputs)
        return (
            np.broadcast_to(self.A, (steps, *self.A.shape)),
            np.broadcast_to(self.B, (steps, *self.B.shape)),
        )

    def save(self, path: str | Path) -> None:
        """Write the model to a ``.npz`` file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        disk.write_arrays(path, {**arrays, 'time_step': np.array(self.time_step)})

    @classmethod
    def load(cls, path: str | Path) -> 'LinearModel':
        """Read a model that `save` wrote.

        Raises:
            ValueError: the file is missing, damaged or holds no linear model.
        """
        try:
            arrays = disk.read_arrays(path, {**_ARRAYS, 'time_step': ()})
            time_step = float(arrays.pop('time_step'))
            return cls(time_step=time_step, **arrays)
        except (OSError, ValueError) as error:
            raise ValueError(
                f'{path} is not a readable linear model: {disk.reason(error)}'
            ) from error
