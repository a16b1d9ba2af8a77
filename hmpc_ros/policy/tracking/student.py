"""How the tracking policy learns from flights: identify a grey box, rehearse on it, tune.

What has a name is identified first. Prediction model and lags are then as identified, and weights
and gains are tuned in rehearsals of the same reference with the noise that was measured: one part
of the reference flown by the estimate, the other by a vehicle drawn from what the data leave open,
and a little slower: so that weights do not hold for one set of numbers only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hmpc_ros.plant.grey_box import HIGH, LOW, SLICES, GreyBox
from hmpc_ros.plant.grey_box_fit import Identified, Recording, fit, unexplained
from hmpc_ros.plant.presets import Preset
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.rigid_body import conjugate, multiply
from hmpc_ros.policy.tracking import tuning
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.policy.tracking.parameters import (
    TrackingLimits,
    TrackingParameters,
    assumed_box,
    refitted,
)
from hmpc_ros.policy.tracking.policy import TrackingPolicy
from hmpc_ros.policy.tracking.rehearsal import SETTLING, Rehearsed, Scene, Tracking, rehearse

LONGEST = 4.5  # s, of a rehearsal
MARGIN = 0.15  # of the rates' lags and shapes, by which weights have to hold
SCENES = 2  # one per core of a small machine

#: Maps a function over scenes, here or on workers; the order is kept.
Map = Callable[[Callable[..., Rehearsed], Sequence[tuple]], Sequence[Rehearsed]]


def in_turn(function: Callable[..., Rehearsed], arguments: Sequence[tuple]) -> list[Rehearsed]:
    """Rehearse one scene after the other, in this process."""
    return [function(*each) for each in arguments]


@dataclass(frozen=True, eq=False)
class Taught:
    """What was learned; `promised` is the cost [m^2] in rehearsals."""

    parameters: TrackingParameters
    promised: float
    identified: Identified
    tuned: tuning.Tuned


@dataclass(frozen=True, eq=False)
class Teacher:
    """All that is known before any flight.

    Attributes:
        preset: the vehicle as assumed.
        limits: of commands.
        start: parameters that changes of the weights are measured against.
        reference: what is flown.
        begin, end: of what is counted [s].
        time_step: control period [s].
        costs: of a flight.
        settings: of the tuning.
    """

    preset: Preset
    limits: TrackingLimits
    start: TrackingParameters
    reference: Reference
    begin: float
    end: float
    time_step: float = 0.01
    costs: Tracking = field(default_factory=Tracking)
    settings: tuning.Settings = field(default_factory=tuning.Settings)

    def prior(self) -> GreyBox:
        """Return the vehicle as the start parameters have it."""
        return assumed_box(self.start)

    def teach(
        self,
        flights: Sequence[Recording],
        best: TrackingParameters,
        radius: float,
        rng: np.random.Generator,
        over: Map = in_turn,
    ) -> Taught:
        """Identify the vehicle from flights, and tune for it.

        Args:
            flights: the last one last.
            best: the best parameters flown.
            radius: largest change of a logarithm of `best`'s weights.
            rng: draws vehicle and noise.
            over: where rehearsals are flown.
        """
        found = fit(flights, self.prior())
        held = refitted(self.start, found.box)
        # Lags are tuned from the identified ones on: until then they are the start's.
        first = np.array_equal(best.theta, self.start.theta)
        begun = held if first else replace(
            best, thrust_gain=held.thrust_gain, drag=held.drag
        )  # fmt: skip
        scenes = self.scenes(found, flights[-1], rng)

        def rehearsed(theta: np.ndarray) -> Sequence[Rehearsed]:
            jobs = [(theta, scene, self.preset, self.limits, self.costs) for scene in scenes]
            return over(rehearse_scene, jobs)

        settings = replace(self.settings, radius=radius)
        tuned = tuning.tune(begun.theta, rehearsed, settings, held.theta)
        return Taught(TrackingParameters.from_theta(tuned.theta), tuned.after, found, tuned)

    def slower(self, box: GreyBox) -> GreyBox:
        """Return a vehicle that is worse to control than a grey box, by what boxes leave out.

        A rate loop is not two lags: weights that only hold for one set of them shake the vehicle.
        """
        vector = box.vector
        vector[SLICES['rate_lags']] *= 1 + MARGIN
        vector[SLICES['rate_shapes']] += MARGIN
        vector[SLICES['delay']] += self.time_step / 2
        return GreyBox.from_vector(np.clip(vector, LOW, HIGH))

    def scenes(
        self, found: Identified, flight: Recording, rng: np.random.Generator
    ) -> list[Scene]:
        """Return what is rehearsed: equal parts of what is counted, or as much as is worth it.

        The last flight tells the noise of sensors, and forces that no number of the grey box
        explains: at the same moment of the same reference they come again.
        """
        std, forces = noise(flight.states), unexplained(flight, found.box)
        part = (self.end - self.begin) / SCENES
        length = min(LONGEST, part + SETTLING)
        steps = math.ceil(length / self.time_step)
        begins = [max(0.0, self.begin + i * part - SETTLING) for i in range(SCENES)]
        return [
            Scene(
                found.box if i == 0 else self.slower(found.draw(rng)),
                self.reference,
                begin,
                steps,
                self.time_step,
                std,
                forces[round(begin / self.time_step) :],
                seed=int(rng.integers(2**31)),
            )
            for i, begin in enumerate(begins)
        ]


def noise(states: np.ndarray) -> np.ndarray:
    """Return standard deviations (12,) of white noise in measured states (T+1, 13).

    From third differences, in which motion is nothing beside noise: their variance is 20-fold.
    """
    q = states[:, 6:10]
    turns = 2 * multiply(conjugate(q[:-1]), q[1:])
    turns = (turns * np.sign(turns[:, :1]))[:, 1:]
    jumps = np.diff(states[:, [0, 1, 2, 3, 4, 5, 10, 11, 12]], n=3, axis=0)
    rest, turned = np.std(jumps, axis=0), np.std(np.diff(turns, n=2, axis=0), axis=0)
    return np.concatenate((rest[:6], turned, rest[6:])) / math.sqrt(20)


# Of this process, by limits and control period: a solver is kept, parameters come and go.
_policies: dict[tuple[TrackingLimits, float], TrackingPolicy] = {}


def rehearse_scene(
    theta: np.ndarray, scene: Scene, preset: Preset, limits: TrackingLimits, costs: Tracking
) -> Rehearsed:
    """Rehearse with a policy that this process keeps."""
    parameters = TrackingParameters.from_theta(theta)
    key = (limits, scene.time_step)
    if key not in _policies:
        _policies[key] = TrackingPolicy(parameters, *key)
    policy = _policies[key]
    policy.set_parameters(parameters)
    return rehearse(scene, policy, preset, costs)


def flown_cost(
    flight: TrackedFlight, costs: Tracking, believed: Drag, begin: float, end: float
) -> float:
    """Return what a flight cost by what was measured [m^2], without what noise adds.

    Noise of two moments is independent: the mean product of errors 50 ms apart (each a mean over
    50 ms) is their mean square without it.
    """
    _, r, n = _counted(flight, costs, believed, begin, end)
    if len(r) <= 3 * n:
        return math.inf
    smooth = _means(r[:, :6], n)
    by_product = np.mean(np.sum(smooth[:-n] * smooth[n:], axis=1))
    return float(by_product + np.mean(np.sum(r[:, 6:] ** 2, axis=1)))


def flown_slopes(
    flight: TrackedFlight, costs: Tracking, believed: Drag, begin: float, end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of `flown_cost` by errors (T+1, 12) and by commands (T, 4)."""
    by_x, by_u = np.zeros((flight.steps + 1, 12)), np.zeros((flight.steps, 4))
    counted, r, n = _counted(flight, costs, believed, begin, end)
    if len(r) <= 3 * n:
        return by_x, by_u
    smooth = _means(r[:, :6], n)
    slope = np.zeros_like(smooth)
    slope[:-n] += smooth[n:]
    slope[n:] += smooth[:-n]
    # Of r: sum over the means that it is a part of; the first r is a part of none.
    summed = np.cumsum(np.pad(slope / (len(smooth) - n) / n, ((n, n), (0, 0))), axis=0)
    by_r = np.vstack((np.zeros(6), summed[n:-1] - summed[: -n - 1]))
    where = np.flatnonzero(counted)
    by_x[where, :6] = by_r * costs.units[:6]
    by_u[where, 1:] = 2 / len(r) * r[:, 6:] * costs.units[6:]
    return by_x, by_u


def _counted(
    flight: TrackedFlight, costs: Tracking, believed: Drag, begin: float, end: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which steps are counted (T,), their residuals, and the steps of 50 ms."""
    flat, _ = flat_states(flight.reference, believed)
    t = flight.times[:-1]
    counted = (t >= begin - 1e-9) & (t <= end + 1e-9)
    r = costs.residuals(flight.measured, flight, flat)[counted]
    return counted, r, max(1, round(0.05 / flight.time_step))


def _means(r: np.ndarray, n: int) -> np.ndarray:
    """Return means of n rows each, of all rows but the first."""
    summed = np.cumsum(r, axis=0)
    return (summed[n:] - summed[:-n]) / n


def for_people(flight: TrackedFlight, begin: float, end: float) -> dict[str, Any]:
    """Return the true errors of a flight by the names of records: RMSE and largest [m]."""
    times = flight.times
    errors = flight.errors[(times >= begin - 1e-9) & (times <= end + 1e-9)]
    if not len(errors) or not np.isfinite(errors).all():
        return {'rmse_m': None, 'max_m': None}
    square = np.sum(errors**2, axis=1)
    return {'rmse_m': float(np.sqrt(square.mean())), 'max_m': float(np.sqrt(square.max()))}
