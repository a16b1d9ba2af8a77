"""The plant as the tracking policy meets it: vehicle, own filter and observer, differentiated.

The policy answers s = (x, e): the measured state and what the observer made of the past, e = (a,
ratio, disturbance). Between two answers the vehicle goes on by f and the observer by O, which
compares the velocity that came with the one that the model (theta!) had predicted:

    x+ = f(x, u),    e+ = O(x, u, e, v+; theta),    v+ = f_v(x, u)

    A = [ f_x                0   ]   B = [ f_u              ]   F = ds+/dtheta = [ 0       ]
        [ O_x + O_v f_v,x    O_e ]       [ O_u + O_v f_v,u  ]                    [ O_theta ]

So theta moves a flight not only through the commands. Its model (k_T, drag, lags) and the
observer's gains also move the estimates directly, at every step and at the start, where a is that
of hover, g / k_T. With the costates lam_t of the augmented state and w_t = dJ/du_t + B' lam_{t+1},

    dJ/dtheta = sum_t [ w_t' du_t/dtheta + lam_{t+1}' F_t ] + lam_0' ds_0/dtheta

What a vehicle has beyond the measured state (its own thrust, say, which is not the filter's a: when
theta changes, only the filter's lag does) comes last in s, and the policy does not see it.
"""

import math
from dataclasses import astuple

import numpy as np

from hmpc_ros.plant import rigid_body
from hmpc_ros.policy.protocol import Loop
from hmpc_ros.policy.tracking import model
from hmpc_ros.policy.tracking.derivative_code import N_STATE, compiled, tangent
from hmpc_ros.policy.tracking.observer import N_ESTIMATE, ObserverLimits
from hmpc_ros.policy.tracking.parameters import BLOCKS, N_THETA, TrackingParameters

_MEASURED = N_STATE - N_ESTIMATE  # 12
_ESTIMATES = slice(_MEASURED, N_STATE)
# What of theta the observer knows.
_KNOWN = ('thrust_gain', 'drag', 'thrust_lag', 'rate_lags', 'thrust_observer', 'force_observer')


def augmented(
    parameters: TrackingParameters,
    states: np.ndarray,
    inputs: np.ndarray,
    estimates: np.ndarray,
    plant: tuple[np.ndarray, np.ndarray],
    time_step: float,
) -> Loop:
    """Put the observer beside a vehicle's Jacobians.

    The loop's nd is 17 + what the policy does not see, in the order errors (12) of `rigid_body`, a,
    ratio, disturbance, the rest.

    Args:
        parameters: those flown under.
        states: measured (T+1, 13).
        inputs: commanded (T, 4).
        estimates: what the policy solved with (T, 5), beginning with a reset observer's.
        plant: A (T, m, m) and B (T, m, 4) of the vehicle, m >= 12: errors (12) of `rigid_body`,
            then what else it has.
        time_step: control period [s].

    Raises:
        ValueError: lengths do not agree.
    """
    A, B = plant
    T, m = len(inputs), A.shape[-1]
    if m < _MEASURED or A.shape != (T, m, m) or B.shape != (T, m, model.NU):
        raise ValueError(
            f'the Jacobians of {T} steps must be ({T}, m, m) and ({T}, m, {model.NU}) with '
            f'm >= {_MEASURED}, got {A.shape} and {B.shape}'
        )
    x = np.column_stack((states[:-1, :10], estimates[:, 0], states[:-1, 10:]))
    p = np.tile(_model_parameters(parameters, time_step), (T, 1))
    p[:, model.STAGE['thrust_ratio']] = estimates[:, 1:2]
    p[:, model.STAGE['disturbance']] = estimates[:, 2:]
    gains = np.concatenate((parameters.thrust_observer, parameters.force_observer))
    bounds = np.array(astuple(ObserverLimits()))
    derivatives = compiled()['observer'](
        x, inputs, p, np.tile(gains, (T, 1)), states[1:, rigid_body.VELOCITY],
        np.tile(bounds, (T, 1)),
    )  # fmt: skip
    by_x, by_e, by_u, by_v, by_theta = (found.swapaxes(1, 2) for found in derivatives)
    by_state = by_x @ tangent(states[:-1, rigid_body.QUATERNION])  # (T, 5, 13): a comes last

    nd = m + N_ESTIMATE
    own = np.array([*range(_MEASURED), *range(N_STATE, nd)])
    whole_A, whole_B = np.zeros((T, nd, nd)), np.empty((T, nd, model.NU))
    whole_A[:, own[:, None], own], whole_B[:, own] = A, B
    row = whole_A[:, _ESTIMATES]
    row[:, :, own] = by_v @ A[:, rigid_body.VELOCITY]
    row[:, :, : _MEASURED + 1] += by_state
    row[:, :, _MEASURED + 1 : N_STATE] = by_e
    whole_B[:, _ESTIMATES] = by_u + by_v @ B[:, rigid_body.VELOCITY]

    where = np.concatenate([np.arange(N_THETA)[BLOCKS[name]] for name in _KNOWN])
    forcing, initial = np.zeros((T, nd, N_THETA)), np.zeros((nd, N_THETA))
    forcing[:, _ESTIMATES, where] = by_theta
    initial[_MEASURED, BLOCKS['thrust_gain']] = -model.GRAVITY / parameters.thrust_gain**2
    return Loop(whole_A, whole_B, forcing, initial)


def _model_parameters(parameters: TrackingParameters, time_step: float) -> np.ndarray:
    """Return a stage's parameters (NP,) of the model alone, no disturbance in them."""
    p = np.zeros(model.NP)
    for name in _KNOWN[:-2]:
        p[model.STAGE[name]] = getattr(parameters, name)
    p[model.STAGE['thrust_ratio']], p[model.STAGE['time_step']] = 1.0, time_step
    return p


class NominalPlant:
    """A vehicle that flies exactly as the policy's model says; its own thrust is a hidden state."""

    def __init__(self, parameters: TrackingParameters, time_step: float) -> None:
        """Fly under the model in these parameters; ``time_step`` is the control period [s]."""
        self._p = _model_parameters(parameters, time_step)
        self._hover = model.GRAVITY / float(parameters.thrust_gain[0])
        self._decay = math.exp(-time_step / float(parameters.thrust_lag[0]))
        self.reset(rigid_body.resting_state())

    def reset(self, x0: np.ndarray) -> None:
        """Begin a flight at a state (13,), with hover thrust."""
        self.state = np.array(x0, dtype=float)
        self._thrust = self._hover

    def step(self, u: np.ndarray) -> None:
        """Fly one control period under a command (4,)."""
        x = np.concatenate((self.state[:10], [self._thrust], self.state[10:]))
        after = compiled()['plant'](x[None], u[None], self._p[None])[0].ravel()
        self.state = np.delete(after, model.THRUST)
        self._thrust = float(after[model.THRUST.start])

    def jacobians(self, states: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return A (T, 13, 13) and B (T, 13, 4) along a flight that began at hover thrust.

        States are measured, (T+1, 13), inputs (T, 4).
        """
        thrust = np.full(len(inputs), self._hover)
        for t in range(1, len(inputs)):
            u = inputs[t - 1, 0]
            thrust[t] = u + (thrust[t - 1] - u) * self._decay
        x = np.column_stack((states[:-1, :10], thrust, states[:-1, 10:]))
        _, by_x, by_u = compiled()['plant'](x, inputs, np.tile(self._p, (len(inputs), 1)))
        # The attitude's error is 4 E' dq where dq = E error: E'E = I / 4.
        back = tangent(states[1:, rigid_body.QUATERNION]).swapaxes(1, 2)
        back[:, rigid_body.ATTITUDE_ERROR] *= 4
        moved = by_x.swapaxes(1, 2) @ tangent(states[:-1, rigid_body.QUATERNION])
        return back @ moved, back @ by_u.swapaxes(1, 2)
