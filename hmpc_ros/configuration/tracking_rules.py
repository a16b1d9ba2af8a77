"""Gradient rules on the tracking MPC: the numbers that the default rule changes, by logarithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration.learner import estimator, safeguard, schedules
from hmpc_ros.learning.adam import AdamRule
from hmpc_ros.learning.costate import loop_gradient
from hmpc_ros.learning.estimators import ModelBased
from hmpc_ros.learning.logarithms import LogarithmicRule, Logarithms
from hmpc_ros.learning.rules import PaperRule
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.protocol import MissingDerivativeError
from hmpc_ros.policy.tracking.derivative import differentiate
from hmpc_ros.policy.tracking.parameters import BLOCKS, N_THETA, TrackingParameters
from hmpc_ros.policy.tracking.tuning import TUNED

if TYPE_CHECKING:
    from hmpc_ros.configuration.build import Values
    from hmpc_ros.learning.rules import Rule
    from hmpc_ros.policy.tracking.student import Teacher

REACH = 3.0  # of logarithms, the default rule's first trust region


def logarithms(start: Parameters) -> Logarithms:
    """Return what rules without a vehicle in mind change: all that the default rule does.

    That is the weights, lags and gains that it tunes, and the thrust gain and drag that it
    identifies; what is 0 stays so.
    """
    free = np.zeros(N_THETA, dtype=bool)
    for name in (*TUNED, 'thrust_gain', 'drag'):
        free[BLOCKS[name]] = True
    return Logarithms(start, free & (start.theta > 0), REACH)


def rule(learner: Values, known: Teacher, start: Parameters) -> Rule:
    """Return the rule ``paper`` or ``adam``; steps and perturbations are of logarithms."""
    seen = logarithms(start)
    gradients = estimator(learner, ModelBased(TrackingGradient(known, seen)))
    step_size, _ = schedules(learner)
    if learner['rule'] == 'adam':
        found: Rule = AdamRule(gradients, learner['adam.learning_rate'], safeguard(learner))
    else:
        found = PaperRule(gradients, step_size, safeguard(learner))
    return LogarithmicRule(found, seen)


@dataclass(frozen=True, eq=False)
class TrackingGradient:
    """dJ/dlogarithms of a flight by the policy's own model, through the whole loop."""

    teacher: Teacher
    logarithms: Logarithms

    def __call__(self, flight: Any, parameters: Parameters) -> np.ndarray:
        """Differentiate a `TrackedFlight` that keeps its solutions.

        Raises:
            MissingDerivativeError: the MPC failed at some steps, or has no derivative there.
        """
        if flight.failures or len(flight.solutions) < flight.steps:
            failed = flight.failures or tuple(range(len(flight.solutions), flight.steps))
            raise MissingDerivativeError(failed, flight.steps)
        t = self.teacher
        theta = self.logarithms.back(parameters).theta
        own = TrackingParameters.from_theta(theta)
        derivative = differentiate(flight.solutions, own, t.limits)
        believed = Drag(float(t.start.thrust_gain[0]), t.start.drag)
        flat, _ = flat_states(flight.reference, believed)
        times = flight.times[:-1]
        counted = (times >= t.begin - 1e-9) & (times <= t.end + 1e-9)
        slopes = 2 / counted.sum() * t.costs.units * counted[:, None]
        slopes = slopes * t.costs.residuals(flight.measured, flight, flat)
        by_x, by_u = np.zeros((flight.steps + 1, 12)), np.zeros((flight.steps, 4))
        by_x[:-1, :6], by_u[:, 1:] = slopes[:, :6], slopes[:, 6:]
        by_theta = loop_gradient(derivative, derivative.loop(flight), by_x, by_u)
        return self.logarithms.slope(by_theta, parameters)
