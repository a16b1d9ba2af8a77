"""What the policy knows beyond the measured state: thrust now, disturbance and thrust gain.

With e the acceleration that the model did not predict, and z_b the thrust axis (flight.md, 2):

    ratio' = G (z_b' e) / g            d' = L (e - z_b z_b' e)

k_T = thrust_gain * ratio. A force along the thrust axis is taken for thrust: what a wrong mass
does turns with the body.
"""

from dataclasses import dataclass

import casadi as ca
import numpy as np

from hmpc_ros.plant.quadcopter import _BufferedFunction
from hmpc_ros.policy.tracking import model
from hmpc_ros.policy.tracking.parameters import TrackingParameters

N_ESTIMATE = 5  # a, ratio, d


@dataclass(frozen=True)
class ObserverLimits:
    """Bounds of the estimates: an observer takes whatever it does not know for a force."""

    ratio_min: float = 0.5
    ratio_max: float = 1.6
    disturbance: float = 6.0  # m/s^2, each axis
    innovation: float = 20.0  # m/s^2, each axis, of e


def advanced(x: ca.SX, u: ca.SX, p: ca.SX, gains: ca.SX, v: ca.SX, limits: ObserverLimits) -> ca.SX:
    """Return (a, ratio, d) one control period later, when the velocity v is measured."""
    s = model.Stage(p)
    predicted = model.step(x, u, s)
    h, bound = s.time_step, limits.innovation
    e = ca.fmin(ca.fmax((v - predicted[model.VELOCITY]) / h, -bound), bound)
    z = model.rotation(x[model.ATTITUDE])[:, 2]
    along = ca.dot(z, e)
    ratio = s.thrust_ratio + h * gains[0] * along / model.GRAVITY
    ratio = ca.fmin(ca.fmax(ratio, limits.ratio_min), limits.ratio_max)
    force = s.disturbance + h * gains[1] * (e - z * along)
    force = ca.fmin(ca.fmax(force, -limits.disturbance), limits.disturbance)
    return ca.vertcat(predicted[model.THRUST], ratio, force)


def _function(limits: ObserverLimits) -> ca.Function:
    x, u = ca.SX.sym('x', model.NX), ca.SX.sym('u', model.NU)
    p, gains, v = ca.SX.sym('p', model.NP), ca.SX.sym('gains', 2), ca.SX.sym('v', 3)
    after = advanced(x, u, p, gains, v, limits)
    return ca.Function('observer', [x, u, p, gains, v], [after])


class Observer:
    """Estimates (5,): thrust acceleration a [m/s^2], thrust ratio, disturbance (3) [m/s^2]."""

    def __init__(self, parameters: TrackingParameters) -> None:
        """Start where the model is right."""
        self._function = _BufferedFunction(_function(ObserverLimits()))
        self._p = np.zeros(model.NP)
        self.set_parameters(parameters)
        self.reset()

    def set_parameters(self, parameters: TrackingParameters) -> None:
        """Predict with another model and other gains from now on; the estimates stay."""
        for name in ('thrust_gain', 'drag', 'thrust_lag', 'rate_lags'):
            self._p[model.STAGE[name]] = getattr(parameters, name)
        self._gains = np.concatenate((parameters.thrust_observer, parameters.force_observer))
        self._hover = model.GRAVITY / float(parameters.thrust_gain[0])

    def reset(self) -> None:
        """Believe the model, at hover thrust."""
        self.estimate = np.array([self._hover, 1.0, 0.0, 0.0, 0.0])

    def advance(self, x: np.ndarray, u: np.ndarray, measured: np.ndarray, period: float) -> None:
        """Learn from a period [s]: state (13,), command (4,) flown, state measured at its end."""
        self._p[model.STAGE['thrust_ratio']] = self.estimate[1]
        self._p[model.STAGE['disturbance']] = self.estimate[2:]
        self._p[model.STAGE['time_step']] = period
        state = np.concatenate((x[:10], self.estimate[:1], x[10:]))
        (found,) = self._function(state, u, self._p, self._gains, measured[3:6])
        if np.isfinite(found).all():
            self.estimate = found.ravel()
