"""What the default rule (``few_flights.py``) knows from one iteration to the next.

All of it goes through the rule's memory: numbers, and arrays whose size does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.noise import ResidualNoise
from hmpc_ros.plant.quadcopter import NX
from hmpc_ros.plant.surrogate import Surrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.plant.linear_model import LinearModel
    from hmpc_ros.policy.linear.mpc import Solution

# What a candidate is.
START, STEP, REFRESH, EXCURSION = 'start', 'step', 'refresh', 'excursion'
VERIFICATION = 'verification'
# What is remembered of flights.
POINTS = ('base', 'incumbent', 'verified')
NUMBERS = ('k', 'J', 'measured', 'flights', 'descent', 'excess', 'judged')
INTEGERS = ('k', 'flights', 'descent')
ARRAYS = ('theta', 'average', 'states', 'inputs')


@dataclass(eq=False)
class Point:
    """Weights and model that were flown, with what the flights of all tasks showed.

    Attributes:
        theta: (94,).
        average: Discounted mean of the weights along the descent up to here, (94,).
        model: Prediction model of the MPC.
        k: Iteration that flew it.
        J: Mean cost over the tasks; where flights are noisy, with the noise taken out.
        measured: Mean cost of its flights as they were.
        flights: How often every task was flown.
        descent: Which descent it belongs to.
        excess: By how much the flights of that descent cost more than J, on average; no flights
            count more than the last few.
        judged: How many flights count.
        states: Deviations, (tasks, T+1, 12).
        inputs: Deviations from hover [rad/s], (tasks, T, 4).
        solutions: The MPC's solutions of the flights, while they are at hand.
    """

    theta: NDArray[np.float64]
    average: NDArray[np.float64]
    model: LinearModel
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
        model: Prediction model that the run starts with.
        state_max: Bounds of the states 3..11, (9,).
        tasks: Number of tasks.
        memory: What the last iteration left; empty in the first.

    Attributes:
        surrogate, noise: Of the plant, learned from the flights so far.
        starts: Sums of the states that the flights of each task began with, and their number,
            (tasks, 13).
        progress: Where the rule stands.
        base: Where the present descent stands; None where there is none.
        incumbent: The best that was flown.
        verified: The last incumbent that was flown again and held.
        candidate_model: The MPC's model in this iteration.
    """

    def __init__(
        self, model: LinearModel, state_max: NDArray[np.float64], tasks: int, memory: Memory
    ) -> None:
        self.model = model
        self.surrogate = Surrogate(model, state_max)
        self.noise = ResidualNoise()
        self.starts = np.zeros((tasks, NX + 1))
        self.progress = Progress()
        self.base: Point | None = None
        self.incumbent: Point | None = None
        self.verified: Point | None = None
        self.candidate_model = model
        if memory:
            self._recall(memory)

    def memory(self) -> Memory:
        """Return all of it, to be kept."""
        memory: dict[str, Any] = {
            f'progress_{item.name}': getattr(self.progress, item.name)
            for item in fields(self.progress)
        }
        memory['candidate_model'] = self.candidate_model.entries
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
                memory[f'{name}_model'] = point.model.entries
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
        self.candidate_model = self._model(memory['candidate_model'])
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
            model=self._model(memory[f'{name}_model']),
            **numbers,
            **{key: memory[f'{name}_{key}'] for key in ARRAYS},
        )

    def _model(self, entries: NDArray[np.float64]) -> LinearModel:
        start = self.model
        model = start.with_entries(entries)
        return start if model.same_as(start) else model
