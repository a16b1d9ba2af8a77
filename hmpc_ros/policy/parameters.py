"""What decides a policy's commands, as one object of named blocks: its `Parameters`.

Some blocks are *learnable*: one after the other they are the vector theta that learning rules see.
The others stay while a rule changes theta, and change as a whole (a prediction model that was
fitted anew). In files, as ROS parameters and in records a block is its name and its numbers, row by
row; this is the one place that converts between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Fixed = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Block:
    """A named part of a policy.

    Attributes:
        lower, upper: The range of its entries: one number, or one for each.
        unit, meaning: For people.
    """

    name: str  #: as in files and records
    shape: tuple[int, ...]  #: of its numbers
    lower: ArrayLike = -np.inf
    upper: ArrayLike = np.inf
    #: the change of an entry that counts as 1: probes and steps are measured in it
    scale: float = 1.0
    unit: str = '1'
    meaning: str = ''
    learnable: bool = True  #: whether it is a part of theta

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class ParameterSpace:
    """The blocks of a kind of policy, and the convex compact set that theta is kept in.

    Raises:
        ValueError: a bound of theta is not finite (the set would not be compact), or a side is
            empty.
    """

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise ValueError(f"the box's bounds must be {self.size} finite numbers each")
        if np.any(self.lower > self.upper):
            raise ValueError('the box is empty: a lower bound exceeds its upper bound')

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Where each learnable block lies in theta."""
        found, start = {}, 0
        for block in self._learnable:
            found[block.name] = slice(start, start + block.size)
            start += block.size
        return found

    @property
    def _learnable(self) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if block.learnable)

    @cached_property
    def size(self) -> int:
        """n, the length of theta."""
        return sum(block.size for block in self._learnable)

    @cached_property
    def lower(self) -> NDArray[np.float64]:
        """Least theta, (n,)."""
        return self._spread('lower')

    @cached_property
    def upper(self) -> NDArray[np.float64]:
        """Largest theta, (n,)."""
        return self._spread('upper')

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """What counts as a change of 1, (n,)."""
        return self._spread('scale')

    def _spread(self, name: str) -> NDArray[np.float64]:
        values = [np.broadcast_to(getattr(b, name), b.shape).ravel() for b in self._learnable]
        return np.concatenate(values, dtype=float)

    def pack(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Return theta (n,) of the learnable blocks' values by name.

        Raises:
            ValueError: a block has another number of entries.
        """
        theta = np.empty(self.size)
        for name, part in self.parts.items():
            numbers = np.asarray(values[name], dtype=float).ravel()
            wanted = part.stop - part.start
            if numbers.size != wanted:
                raise ValueError(f'{name} needs {wanted} numbers, not {numbers.size}')
            theta[part] = numbers
        return theta

    def unpack(self, theta: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return the learnable blocks by name, each in its shape, of theta (n,).

        Raises:
            ValueError: theta has another length.
        """
        theta = np.asarray(theta, dtype=float)
        if theta.shape != (self.size,):
            raise ValueError(f'theta needs {self.size} numbers, got shape {theta.shape}')
        return {b.name: theta[self.parts[b.name]].reshape(b.shape) for b in self._learnable}

    def project(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest theta of the set."""
        return np.clip(theta, self.lower, self.upper)

    def refuse_outside(self, theta: NDArray[np.float64]) -> None:
        """Raise ValueError, naming the worst entry, when theta is not in the set."""
        excess = np.maximum(self.lower - theta, theta - self.upper)
        worst = int(np.argmax(excess))
        if not excess[worst] <= 0:
            raise ValueError(
                f'the start weights are outside the box: theta[{worst}] = {theta[worst]:g} is not '
                f'within {self.lower[worst]:g} ... {self.upper[worst]:g}'
            )


@dataclass(frozen=True, eq=False)
class Parameters:
    """All that decides what a policy commands.

    Raises:
        ValueError: a block has another number of entries.
    """

    space: ParameterSpace  #: the blocks
    theta: NDArray[np.float64]  #: the learnable ones, (n,)
    fixed: Fixed = field(default_factory=dict)  #: the others by name, each flat

    def __post_init__(self) -> None:
        if self.theta.shape != (self.space.size,):
            raise ValueError(f'theta needs {self.space.size} numbers, got shape {self.theta.shape}')
        for block in self.space.blocks:
            if not block.learnable and self.fixed[block.name].shape != (block.size,):
                raise ValueError(
                    f'{block.name} needs {block.size} numbers, not {self.fixed[block.name].size}'
                )

    def with_theta(self, theta: ArrayLike) -> Parameters:
        """Return the same with other learnable blocks, (n,)."""
        return replace(self, theta=np.array(theta, dtype=float))

    def with_fixed(self, fixed: Mapping[str, Any]) -> Parameters:
        """Return the same with other values of some of the blocks that are not learned."""
        new = {name: np.array(values, dtype=float) for name, values in fixed.items()}
        return replace(self, fixed={**self.fixed, **new}) if new else self

    def fixed_beside(self, own: Fixed) -> Fixed:
        """Return the blocks that are not learned and differ from somebody's own, by name."""
        if self.fixed is own:
            return {}
        return {n: v for n, v in self.fixed.items() if not np.array_equal(v, own[n])}

    def entries(self, own: Fixed) -> dict[str, list[float]]:
        """Return all blocks by name as plain numbers; empty where they are somebody's own."""
        beside = self.fixed_beside(own)
        learned = self.space.unpack(self.theta)
        return {
            block.name: learned[block.name].ravel().tolist()
            if block.learnable
            else beside.get(block.name, np.empty(0)).tolist()
            for block in self.space.blocks
        }
