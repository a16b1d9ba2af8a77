"""Flies a simulated vehicle along a reference, here and now, without ROS."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.rigid_body import NU, NX, resting_state
from hmpc_ros.plant.simulators.protocol import Simulator
from hmpc_ros.policy.flight import Answer, closed_loop
from hmpc_ros.policy.tracking.observer import N_ESTIMATE
from hmpc_ros.policy.tracking.policy import TrackingPolicy, Window
from hmpc_ros.policy.tracking.solution import TrackingSolution


@dataclass(frozen=True, eq=False)
class TrackedFlight:
    """T steps along a reference."""

    time_step: float  #: [s]
    states: np.ndarray  #: (T+1, 13) as it was: p, v (world), q (wxyz, body to world), w (body)
    measured: np.ndarray  #: (T+1, 13) as sensors gave it; the policy knew these only
    inputs: np.ndarray  #: (T, 4) commands: thrust acceleration [m/s^2], body rates [rad/s]
    reference: Samples  #: its samples at the T+1 times
    #: (T, 5) thrust acceleration, thrust ratio, disturbance, as used at each step
    estimates: np.ndarray
    #: of the steps, if they were kept, else empty; those of failed steps are not ok
    solutions: tuple[TrackingSolution, ...]
    failures: tuple[int, ...]  #: steps whose solve failed
    fallbacks: tuple[int, ...]  #: steps whose command was no solution
    solve_times: np.ndarray  #: (T,) of the whole solve [s]
    planned_steps: int  #: that were to be flown
    ended: str = ''  #: why the flight ended early, empty if it did not

    @property
    def steps(self) -> int:
        """T."""
        return len(self.inputs)

    @property
    def failed_steps(self) -> tuple[int, ...]:
        """Steps that did not fly a solution, by the name that learning knows them by."""
        return self.failures

    @property
    def complete(self) -> bool:
        """Whether all that was planned was flown."""
        return self.steps == self.planned_steps

    @property
    def times(self) -> np.ndarray:
        """Of the states, (T+1,) [s]."""
        return self.time_step * np.arange(self.steps + 1)

    @property
    def errors(self) -> np.ndarray:
        """Of the true position, world frame, (T+1, 3) [m]."""
        return self.states[:, :3] - self.reference.position

    def save(self, path: Path) -> None:
        """Write all arrays to an .npz file."""
        arrays: dict[str, Any] = {
            'times': self.times, 'states': self.states, 'measured': self.measured,
            'inputs': self.inputs, 'estimates': self.estimates, 'solve_times': self.solve_times,
            **{f'reference_{name}': each for name, each in self.reference._asdict().items()},
        }  # fmt: skip
        np.savez_compressed(path, **arrays)


def fly(
    simulator: Simulator,
    policy: TrackingPolicy,
    reference: Reference,
    steps: int,
    start: np.ndarray | None = None,
    flight_number: int | None = None,
    keep_solutions: bool = True,
    on_step: Callable[[int], None] | None = None,
    region: float = math.inf,
) -> TrackedFlight:
    """Fly ``steps`` control periods; the same again for the same arguments.

    A failed solve is answered by the policy's fallback. The flight ends early where the vehicle's
    state is not finite, or measured outside the region.

    Args:
        simulator: the vehicle; its control period is the policy's.
        policy: with the parameters and limits to fly.
        reference: what to follow, from time 0 on.
        steps: T.
        start: true state (13,) at time 0; at rest where the reference begins if None.
        flight_number: selects noise and wind; the simulator's next one if None.
        keep_solutions: whether the flight keeps all solutions, for its derivative.
        on_step: called after every step with the number of steps flown.
        region: distance [m] from the reference along any axis beyond which the flight is cut short.

    Raises:
        ValueError: simulator and policy differ in their control period.
    """
    period = simulator.time_step
    if abs(period - policy.time_step) > 1e-9:
        raise ValueError(
            f'the simulator steps {period} s, but the tracking policy {policy.time_step} s'
        )
    samples = reference.sample(period * np.arange(steps + 1))
    if start is None:
        start = resting_state(samples.position[0], float(samples.yaw[0]))
    simulator.reset(start, flight_number)
    policy.reset()
    states, estimates = np.empty((steps + 1, NX)), np.empty((steps, N_ESTIMATE))
    times = np.empty(steps)
    states[0] = simulator.truth()

    def answer(x: np.ndarray, k: int) -> Answer | str:
        if not np.isfinite(states[k]).all():
            return f'the state is not finite after {k} steps'
        away = float(np.abs(x[:3] - samples.position[k]).max())
        if away > region:
            return f'{away:.2f} m from the reference after {k} steps'
        window = Window(reference, k * period)
        solution = policy.solve(x, window)
        u = solution.input
        if not solution.ok:
            u = policy.fallback(x, window)
            policy.sent(u)
        estimates[k], times[k] = solution.estimate, solution.total_time
        return u, solution, not solution.ok

    def advance(_x: np.ndarray, u: np.ndarray, k: int) -> np.ndarray:
        simulator.step(u)
        states[k + 1] = simulator.truth()
        if on_step is not None:
            on_step(k + 1)
        return simulator.measure()

    flown = closed_loop(
        simulator.measure(), steps, answer, advance, samples, np.zeros(NU),
        keep_solutions=keep_solutions,
    )  # fmt: skip
    n = flown.steps
    return TrackedFlight(
        period, states[: n + 1], flown.states, flown.inputs,
        Samples(*(each[: n + 1] for each in samples)), estimates[:n], flown.solutions,
        flown.failed_steps, flown.failed_steps, times[:n], steps, flown.ended,
    )  # fmt: skip
