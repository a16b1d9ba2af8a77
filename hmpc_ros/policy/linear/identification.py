"""The paper's way to a model: closed-loop flights near the target, then least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.identification import Identification, identify
from hmpc_ros.plant.quadcopter import ATTITUDE, NU, NX, POSITION, RATES, VELOCITY
from hmpc_ros.policy.flight import closed_loop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.plant.linear_model import LinearModel
    from hmpc_ros.plant.vehicle import Vehicle
    from hmpc_ros.policy.flight import Answer, Flight
    from hmpc_ros.policy.linear.goal import Goal
    from hmpc_ros.policy.linear.limits import Limits

MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class FlightPlan:
    """How the flights to identify from are flown."""

    flights: int = parameter(100, 'flights to identify from', low=1)
    steps: int = parameter(50, 'steps of each', low=1)
    # Initial states are uniform within these distances from the goal [m, m/s, rad, rad/s]; attitude
    # and rates decide how much of the vehicle's nonlinearity the linear model has to average.
    position: float = 0.5
    velocity: float = 0.5
    attitude: float = 0.2
    rates: float = 0.2
    #: standard deviation of the test signal on each rotor [rad/s]. Without it the inputs follow the
    #: states exactly and B cannot be told from A
    excitation: float = 1.0

    def __post_init__(self) -> None:
        for name in ('flights', 'steps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} of the identification must be at least 1')
        if self.flights * self.steps > MOST_SAMPLES:
            raise ValueError(
                f'the identification would keep {self.flights} flights of {self.steps} steps in '
                f'memory; it must be at most {MOST_SAMPLES} steps in all'
            )
        for name in ('position', 'velocity', 'attitude', 'rates', 'excitation'):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f'{name} of the identification must not be negative')


def stabilising_gain(model: LinearModel, limits: Limits) -> NDArray[np.float64]:
    """Return the LQR gain K (4, 12), u = K x, for weights that the limits scale."""
    scale = np.concatenate([np.ones(3), limits.state_max])
    weight = np.diag(1.0 / scale**2)
    effort = np.eye(NU) / (0.02 * model.hover_input) ** 2
    P = scipy.linalg.solve_discrete_are(model.A, model.B, weight, effort)
    return -np.linalg.solve(effort + model.B.T @ P @ model.B, model.B.T @ P @ model.A)


def fly_for_identification(
    vehicle: Vehicle,
    gain: NDArray[np.float64],
    limits: Limits,
    goal: Goal,
    plan: FlightPlan,
    seed: int,
) -> list[Flight]:
    """Fly near the goal under a stabilising linear controller with a test signal on the inputs.

    The controller is u = K x in deviations, its ``gain`` K (4, 12), kept inside the limits; the
    seed is that of initial states and test signal.

    Returns:
        The flights that stayed finite and near the goal.
    """
    def advance(_x: NDArray[np.float64], u: NDArray[np.float64], _t: int) -> NDArray[np.float64]:
        vehicle.step(u)
        return vehicle.measure()

    hover = vehicle.quadcopter.hover_input
    reach = np.empty(NX)
    reach[POSITION], reach[VELOCITY] = plan.position, plan.velocity
    reach[ATTITUDE], reach[RATES] = plan.attitude, plan.rates
    flights = []
    for number in range(plan.flights):
        rng = np.random.default_rng([seed, number])
        vehicle.reset(goal.world(rng.uniform(-reach, reach)), flight=number)
        tests = plan.excitation * rng.standard_normal((plan.steps, NU))

        def answer(x: NDArray[np.float64], t: int, tests: NDArray[np.float64] = tests) -> Answer:
            u = hover + gain @ goal.deviation(x) + tests[t]
            return np.clip(u, limits.rotor_min, limits.rotor_max), None, False

        start = vehicle.measure()
        flights.append(closed_loop(start, plan.steps, answer, advance, goal, hover))
    return flights


def identify_from_flights(
    flights: Sequence[Flight], time_step: float, with_offset: bool = True
) -> Identification:
    """Fit the linear model to flights; see ``hmpc_ros.plant.identification.identify``."""
    arrays = [(flight.deviations, flight.input_deviations) for flight in flights]
    hover = flights[0].hover_input if flights else np.zeros(NU)
    return identify(arrays, time_step, hover, with_offset)
