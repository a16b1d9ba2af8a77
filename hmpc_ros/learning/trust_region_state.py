"""What the trust region's rule knows from one iteration to the next, as numbers and arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.model import Point

if TYPE_CHECKING:
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters


@dataclass
class Progress:
    """Where the rule stands between two iterations; numbers only.

    Attributes:
        radius: The trust region's.
        predicted: By how much J is to change by the candidate, from the base; NaN: not said.
        exploring: Whether the candidate begins a new descent.
        boundary: Whether it lies on the boundary of the region.
        start, start_flights: J of the first that flew, and how often it was flown.
        explored, fruitless: Descents so far, and of them in a row those that led to nothing.
        error, judged: Sum of the squared relative errors of predicted changes, and their number,
            each as much as noise lets it tell; at first one that is all wrong.
        squares, freedom: Of the costs of flights of the same policy: sum of squared deviations from
            their mean, and its degrees of freedom.
    """

    radius: float
    predicted: float = math.nan
    exploring: bool = False
    boundary: bool = False
    start: float = math.nan
    start_flights: int = 1
    explored: int = 0
    fruitless: int = 0
    error: float = 1.0
    judged: float = 1.0
    squares: float = 0.0
    freedom: int = 0

    def arrays(self) -> Memory:
        """Return all of it by name."""
        return {f'progress_{name}': value for name, value in vars(self).items()}

    def restore(self, memory: Memory) -> None:
        """Take over what `arrays` returned."""
        for name in vars(self):
            value = memory[f'progress_{name}']
            # What was not finite has become null on its way through the results.
            setattr(self, name, math.nan if value is None else value)


def kept(incumbent: Point | None, base: Point | None, names: tuple[str, ...]) -> Memory:
    """Return two points as arrays.

    Args:
        incumbent: The best; None before any.
        base: Where the descent stands; None where there is none.
        names: What the model keeps of their flights.
    """
    memory: dict[str, Any] = {}
    for name, point in (('incumbent', incumbent), ('base', base)):
        if point is None:
            continue
        memory[f'{name}_numbers'] = np.array([point.k, point.J, point.flights], dtype=float)
        memory[f'{name}_theta'] = point.parameters.theta
        memory |= {f'{name}_{n}': point.kept[n] for n in names}
        memory |= {f'{name}_fixed_{n}': v for n, v in point.parameters.fixed.items()}
    return memory


def recalled(
    memory: Memory, start: Parameters, names: tuple[str, ...]
) -> tuple[Point | None, Point | None]:
    """Return incumbent and base of what `kept` returned; see there."""
    found: dict[str, Point] = {}
    for name in ('incumbent', 'base'):
        if f'{name}_theta' not in memory:
            continue
        k, J, flights = memory[f'{name}_numbers'].tolist()
        fixed = {block: memory[f'{name}_fixed_{block}'] for block in start.fixed}
        parameters = start.with_theta(memory[f'{name}_theta']).with_fixed(fixed)
        of_flights = {n: memory[f'{name}_{n}'] for n in names}
        found[name] = Point(parameters, int(k), J, int(flights), of_flights)
    incumbent, base = found.get('incumbent'), found.get('base')
    if incumbent is not None and base is not None and incumbent.k == base.k:
        base = incumbent  # one and the same
    return incumbent, base
