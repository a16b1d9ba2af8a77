"""How well a reference was followed, and how soon a goal was reached."""

import math
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.reference.slowed import Slowed
from hmpc_ros.policy.tracking.flying import TrackedFlight


@dataclass(frozen=True)
class Tracking:
    """Errors of the true position over the counted part of a flight."""

    rmse: float  # m
    largest: float  # m
    axes: tuple[float, float, float]  # m, RMSE along world x, y, z
    after: float  # s, what was left out at the beginning
    until: float  # s, where counting ended


@dataclass(frozen=True)
class Settling:
    """How a goal was reached: times from the beginning of the step, None if never."""

    within_5cm: float | None  # s, since when it stayed nearer than that
    within_2cm: float | None  # s
    overshoot: float  # distance flown beyond the goal, over the distance to it


def steady_end(reference: Reference) -> float:
    """Return the time [s] at which a curve begins to end; of others, which go on, infinity."""
    if isinstance(reference, Slowed):
        return reference.factor * steady_end(reference.reference)
    if isinstance(reference, Paced) and isinstance(reference.phase, Phase):
        return reference.phase.cruise
    return math.inf


def tracking(flight: TrackedFlight, after: float, until: float = math.inf) -> Tracking | None:
    """Return the errors from one time [s] to another; of the whole flight if it is shorter.

    None of a flight without a step.
    """
    times, errors = flight.times, flight.errors
    if not flight.steps:
        return None
    until = min(until, float(times[-1]))
    if after >= until:
        after = 0.0
    counted = errors[(times >= after - 1e-9) & (times <= until + 1e-9)]
    square = np.mean(counted**2, axis=0)
    x, y, z = np.sqrt(square).tolist()
    largest = float(np.sqrt((counted**2).sum(axis=1).max()))
    return Tracking(math.sqrt(square.sum()), largest, (x, y, z), after, until)


def settling(flight: TrackedFlight) -> Settling:
    """Return how the last point of the reference was reached from its first."""
    goal, begin = flight.reference.position[-1], flight.reference.position[0]
    left = np.linalg.norm(flight.states[:, :3] - goal, axis=1)

    def since(distance: float) -> float | None:
        outside = np.flatnonzero(~(left <= distance))
        first = int(outside[-1]) + 1 if outside.size else 0
        return flight.time_step * first if first < len(left) else None

    way = goal - begin
    size = float(np.linalg.norm(way))
    beyond = (flight.states[:, :3] - goal) @ way / size**2 if size else np.zeros(1)
    return Settling(since(0.05), since(0.02), max(0.0, float(beyond.max())))
