"""What the default rule (``few_flights.py``) knows from one iteration to the next.

All of it goes through the rule's memory: numbers, and arrays whose size does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.noise import ResidualNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.plant.protocol import PlantModel
    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import Solution

# What a candidate is.
START, STEP, REFRESH, EXCURSION = 'start', 'step', 'refresh', 'excursion'
VERIFICATION = 'verification'
# What is remembered of flights.
POINTS = ('base', 'incumbent', 'verified')
NUMBERS = ('k', 'J', 'measured', 'flights', 'descent', 'excess', 'judged')
INTEGERS = ('k', 'flights', 'descent')
ARRAYS = ('average', 'states', 'inputs')


@dataclass(eq=False)
class Point:
    """A policy that was flown, with what the flights of all tasks showed.

    Attributes:
        parameters: The policy's.
        average: Discounted mean of theta along the descent up to here, (n,).
        k: Iteration that flew it.
        J: Mean cost over the tasks; where flights are noisy, with the noise taken out.
        measured: Mean cost of its flights as they were.
        flights: How often every task was flown.
        descent: Which descent it belongs to.
        excess: By how much the flights of that descent cost more than J, on average; no flights
            count more than the last few.
        judged: How many flights count.
        states: Deviations, (tasks, T+1, nd).
        inputs: Deviations from hover [rad/s], (tasks, T, nu).
        solutions: The MPC's solutions of the flights, while they are at hand.
    """

    parameters: Parameters
    average: NDArray[np.float64]
    k: int
    J: float
    measured: float
    flights: int
    descent: int
    excess: float
    judged: float
    states: NDArray[np.float64]
    inputs: NDArray[np.float64]
    solutions: tuple[tuple[Solution, ...], ...] = ()

    @property
    def theta(self) -> NDArray[np.float64]:
        """Its learnable parameters, (n,)."""
        return self.parameters.theta


@dataclass
class Progress:
    """Where the rule stands between two iterations; numbers only, so that it can be kept.

    Attributes:
        kind: What the candidate is that is to be flown.
        predicted: By how much J is to change by it; NaN where nothing is said.
        composite: The same prediction by the composite model, for steps.
        damping: Of the next step.
        rejections: Failed steps in a row.
        refreshes: Refreshes at the start so far.
        excursions: Excursions so far.
        fruitless: Excursions in a row that have led to nothing.
        descent: Number of the present descent.
        descents: Descents so far.
        resumed: Whether it goes on from the incumbent.
        best_before: The incumbent's J when the present excursion began.
        surprise, change: Discounted sums of (measured - predicted)^2 and measured^2 changes of J.
        judged: Flights in these sums.
        warned: Whether it was said that the surrogate explains nothing.
        noisy: Whether flights are noisy.
        scatter: Variance of what flights cost beyond their J.
        denoised: Flights in it.
        rounds: Verifications of the incumbent that have not told it from the start.
        start_J, start_variance: Mean and variance of what flights under the start cost.
        start_flights: How many.
    """

    kind: str = START
    predicted: float = np.nan
    composite: float = np.nan
    damping: float = 0.0
    rejections: int = 0
    refreshes: int = 0
    excursions: int = 0
    fruitless: int = 0
    descent: int = 0
    descents: int = 0
    resumed: bool = False
    best_before: float = np.inf
    surprise: float = 0.0
    change: float = 0.0
    judged: int = 0
    warned: bool = False
    noisy: bool = False
    scatter: float = 0.0
    denoised: int = 0
    rounds: int = 0
    start_J: float = np.inf
    start_variance: float = 0.0
    start_flights: int = 1

    @property
    def trust(self) -> float | None:
        """Share of the measured changes of J that had been predicted, 0 ... 1; None before any."""
        if not self.change > 0:
            return None
        return float(np.clip(1.0 - self.surprise / self.change, 0.0, 1.0))


class State:
    """What an iteration knows when it begins, and leaves to the next.

    Args:
        start: What the run starts with.
        surrogate: Of the plant, before any flight.
        tasks: Number of tasks.
        memory: What the last iteration left; empty in the first.

    Attributes:
        surrogate, noise: Of the plant, learned from the flights so far.
        starts: Sums of the states that the flights of each task began with, and their number,
            (tasks, nd + 1); one zero each before any.
        progress: Where the rule stands.
        base: Where the present descent stands; None where there is none.
        incumbent: The best that was flown.
        verified: The last incumbent that was flown again and held.
    """

    def __init__(
        self, start: Parameters, surrogate: PlantModel, tasks: int, memory: Memory
    ) -> None:
        self.start = start
        self.surrogate = surrogate
        self.noise = ResidualNoise()
        self.starts = np.zeros((tasks, 1))
        self.progress = Progress()
        self.base: Point | None = None
        self.incumbent: Point | None = None
        self.verified: Point | None = None
        if memory:
            self._recall(memory)

    def add_start(self, task: int, deviation: NDArray[np.float64]) -> None:
        """Note the state (nd,) that a flight of a task began with."""
        if self.starts.shape[1] == 1:
            self.starts = np.zeros((len(self.starts), deviation.size + 1))
        self.starts[task] += np.append(deviation, 1.0)

    def memory(self) -> Memory:
        """Return all of it, to be kept."""
        memory: dict[str, Any] = {
            f'progress_{item.name}': getattr(self.progress, item.name)
            for item in fields(self.progress)
        }
        memory['noise'] = self.noise.variance
        memory['starts'] = self.starts
        for name, array in self.surrogate.arrays().items():
            memory[f'surrogate_{name}'] = array
        kept: list[tuple[str, Point]] = []
        for name in POINTS:
            point = getattr(self, name)
            if point is None:
                continue
            # Points are often the same; each is kept once.
            memory[name] = next((other for other, p in kept if p is point), name)
            if memory[name] == name:
                kept.append((name, point))
                memory[f'{name}_numbers'] = np.array(
                    [getattr(point, key) for key in NUMBERS], dtype=float
                )
                memory[f'{name}_theta'] = point.theta
                for block, values in point.parameters.fixed.items():
                    memory[f'{name}_fixed_{block}'] = values
                for key in ARRAYS:
                    memory[f'{name}_{key}'] = getattr(point, key)
        return memory

    def _recall(self, memory: Memory) -> None:
        for item in fields(self.progress):
            value = memory[f'progress_{item.name}']
            # What was not finite has become null on its way through the results.
            setattr(self.progress, item.name, np.nan if value is None else value)
        for name in ('best_before', 'start_J'):
            if np.isnan(getattr(self.progress, name)):
                setattr(self.progress, name, np.inf)
        self.noise = ResidualNoise(np.array(memory['noise']))
        self.starts = np.array(memory['starts'])
        self.surrogate.restore(
            {name: memory[f'surrogate_{name}'] for name in self.surrogate.arrays()}
        )
        for name in POINTS:
            if name in memory:
                same = memory[name]
                point = self._point_from(memory, name) if same == name else getattr(self, same)
                setattr(self, name, point)

    def _point_from(self, memory: Memory, name: str) -> Point:
        numbers = dict(zip(NUMBERS, memory[f'{name}_numbers'].tolist(), strict=True))
        numbers |= {name: int(numbers[name]) for name in INTEGERS}
        return Point(
            parameters=self.start.with_theta(memory[f'{name}_theta']).with_fixed(
                {block: memory[f'{name}_fixed_{block}'] for block in self.start.fixed}
            ),
            **numbers,
            **{key: memory[f'{name}_{key}'] for key in ARRAYS},
        )
