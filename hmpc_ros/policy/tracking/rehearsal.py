r"""Flights of the tracking policy on a grey box, and how they change with theta.

The derivative is carried forward along the flight, through everything that moves: the body, the
lags and their delay, the measured state, the estimates, the policy (`derivative`). With
s = (p, v, attitude, w; estimates e) as the policy sees them,

    du = K ds + du/dtheta dtheta,   dlags' = A dlags + B du,   dbody' = J_x dbody + J_s dseen,
    de' = J_x ds + J_u du + J_p dtheta

by the same recursions as the flight itself, since all but body and observer are linear.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import casadi as ca
import numpy as np

from hmpc_ros.plant.grey_box import GreyBox
from hmpc_ros.plant.presets import Preset
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.rigid_body import RATES, VELOCITY
from hmpc_ros.plant.simulators.grey_box_simulator import (
    N_BODY,
    GreyBoxSimulator,
    Lags,
    body_step,
)
from hmpc_ros.policy.tracking import flying, model
from hmpc_ros.policy.tracking.derivative import differentiate
from hmpc_ros.policy.tracking.derivative_code import BatchedFunction
from hmpc_ros.policy.tracking.observer import N_ESTIMATE, ObserverLimits, advanced
from hmpc_ros.policy.tracking.parameters import (
    BLOCKS,
    N_THETA,
    TrackingParameters,
)
from hmpc_ros.policy.tracking.policy import TrackingPolicy

SETTLING = 0.5  # s at the beginning of a rehearsal whose errors are not counted


@dataclass(frozen=True)
class Tracking:
    """What a flight costs, in m^2: mean of |p - p_r|^2 and of others, in units of a position.

    The others are there for what position errors do not show: shaking.
    """

    velocity: float = 0.01  # m per m/s of error
    rates: float = 5e-4  # m per rad/s that is commanded beside the reference's rates

    def residuals(
        self, states: np.ndarray, flight: flying.TrackedFlight, flat: np.ndarray
    ) -> np.ndarray:
        """Return what is squared (T, 9), at the T steps of a flight.

        Args:
            states: its true or its measured ones (T+1, 13).
            flight: the flight.
            flat: states (T+1, 13) with which a vehicle would follow the reference.
        """
        return np.hstack([
            (states[:, :3] - flight.reference.position)[:-1],
            self.velocity * (states[:, VELOCITY] - flight.reference.velocity)[:-1],
            self.rates * (flight.inputs[:, 1:] - flat[:-1, RATES]),
        ])  # fmt: skip

    @property
    def units(self) -> np.ndarray:
        """What the derivatives of p, v, w_c are multiplied by, (9,)."""
        return np.repeat([1.0, self.velocity, self.rates], 3)


class Later:
    """A reference that begins at a later time of another."""

    def __init__(self, reference: Reference, begin: float) -> None:
        self._reference, self._begin = reference, begin
        self.duration = reference.duration - begin

    def sample(self, t: np.ndarray) -> Samples:
        """Return the other reference at times t [s] after its begin."""
        return self._reference.sample(t + self._begin)


@dataclass(frozen=True, eq=False)
class Scene:
    """A rehearsal: part of a reference, flown by one vehicle under one noise.

    Attributes:
        box: the vehicle.
        reference: what to follow.
        begin: [s], when the rehearsal begins, on the way and at the reference's state.
        steps: control periods.
        time_step: each of them [s].
        noise: standard deviations (12,) of measurements.
        forces: (T, 3) [m/s^2] beside the box' own, from `begin` on.
        seed: of the noise.
    """

    box: GreyBox
    reference: Reference
    begin: float
    steps: int
    time_step: float = 0.01
    noise: np.ndarray = field(default_factory=lambda: np.zeros(12))
    forces: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """What came of it.

    Attributes:
        cost: of the counted part, see `Tracking`; infinite where it was not flown to its end.
        rmse: of the position, counted part [m].
        gradient: half of the cost's, (N_THETA,).
        hessian: Gauss-Newton's, half of the cost's, (N_THETA, N_THETA).
    """

    cost: float
    rmse: float
    gradient: np.ndarray
    hessian: np.ndarray


def rehearse(
    scene: Scene,
    policy: TrackingPolicy,
    preset: Preset,
    costs: Tracking,
    with_derivative: bool = True,
) -> Rehearsed:
    """Fly a scene under the policy's parameters, and differentiate."""
    simulator = GreyBoxSimulator(
        scene.box, preset, policy.time_step, scene.noise, scene.forces, scene.seed
    )
    part = Later(scene.reference, scene.begin)
    box = scene.box
    times = policy.time_step * np.arange(scene.steps + 1)
    flat, _ = flat_states(part.sample(times), Drag(box.thrust_gain, box.drag, box.disturbance))
    flight = flying.fly(
        simulator, policy, part, scene.steps, start=flat[0], flight_number=0,
        keep_solutions=with_derivative,
    )  # fmt: skip
    nothing = Rehearsed(
        np.inf, np.inf, np.full(N_THETA, np.nan), np.full((N_THETA, N_THETA), np.nan)
    )
    if not flight.complete or flight.failures or not np.isfinite(flight.states).all():
        return nothing
    counted = slice(round(SETTLING / policy.time_step), None)
    r = costs.residuals(flight.states, flight, flat)[counted]
    cost, rmse = np.mean(np.sum(r**2, axis=1)), np.sqrt(np.mean(np.sum(r[:, :3] ** 2, axis=1)))
    if not with_derivative:
        return Rehearsed(float(cost), float(rmse), nothing.gradient, nothing.hessian)
    moved = sensitivity(simulator, flight, policy)
    if moved is None:
        return nothing
    slopes = (moved * costs.units[:, None])[counted]
    return Rehearsed(
        float(cost),
        float(rmse),
        np.einsum('tip,ti->p', slopes, r) / len(r),
        np.tensordot(slopes, slopes, ((0, 1), (0, 1))) / len(r),
    )


def sensitivity(
    simulator: GreyBoxSimulator, flight: flying.TrackedFlight, policy: TrackingPolicy
) -> np.ndarray | None:
    """Return d(p, v, w_c)/dtheta (T, 9, N_THETA) along a flight of a grey box.

    None where the policy has no derivative at some step.
    """
    parameters: TrackingParameters = policy.named
    derivative = differentiate(flight.solutions, parameters, policy.limits)
    if derivative.failed:
        return None
    K, by_theta = derivative.state_gain, derivative.jacobian()
    observed = _observer_jacobians(flight, parameters)
    body = _body_jacobians(simulator, flight)
    turned = _attitude_rows(flight.states[:, 6:10])
    to_policy = np.zeros((12, 13))
    to_policy[:6, :6] = np.eye(6)
    to_policy[9:, 10:] = np.eye(3)

    steps, n = flight.steps, N_THETA
    moved = np.empty((steps, 9, n))
    x, e = np.zeros((13, n)), np.zeros((N_ESTIMATE, n))
    lags = Lags(simulator.box, flight.time_step, np.zeros((4, n)))
    for t in range(steps):
        to_policy[6:9, 6:10] = turned[t]
        u = K[t, :, :12] @ (to_policy @ x) + K[t, :, 12:] @ e + by_theta[t]
        moved[t, :6], moved[t, 6:] = x[:6], u[1:]
        seen = lags.step(u)
        J = body[t]
        x_next = np.concatenate(
            (J[:, :N_BODY] @ x[:N_BODY] + J[:, N_BODY:] @ seen.reshape(12, n), seen[2, 1:])
        )
        # Where the observer looks: x, then a, in the order of `model`.
        J = observed[t]
        e = (
            J.state @ np.concatenate((x[:10], e[:1], x[10:])) + J.input @ u
            + J.estimate @ e[1:] + J.velocity @ x_next[3:6] + J.theta
        )  # fmt: skip
        x = x_next
    return moved


@dataclass(frozen=True, eq=False)
class _Observed:
    """Of the next estimates, at one step."""

    state: np.ndarray  # (5, 14)
    input: np.ndarray  # (5, 4)
    estimate: np.ndarray  # (5, 4): by ratio and disturbance
    velocity: np.ndarray  # (5, 3): by what is measured next
    theta: np.ndarray  # (5, N_THETA)


@lru_cache(maxsize=1)
def _observer_functions() -> BatchedFunction:
    x, u = ca.SX.sym('x', model.NX), ca.SX.sym('u', model.NU)
    p, gains, v = ca.SX.sym('p', model.NP), ca.SX.sym('gains', 2), ca.SX.sym('v', 3)
    found = advanced(x, u, p, gains, v, ObserverLimits())
    every = ca.jacobian(found, ca.vertcat(x, u, p, gains, v))
    return BatchedFunction(ca.Function('observed', [x, u, p, gains, v], [ca.densify(every)]))


def _observer_jacobians(
    flight: flying.TrackedFlight, parameters: TrackingParameters
) -> list[_Observed]:
    n = flight.steps
    before, e = flight.measured[:-1], flight.estimates
    p = np.zeros((n, model.NP))
    for name in ('thrust_gain', 'drag', 'thrust_lag', 'rate_lags'):
        p[:, model.STAGE[name]] = getattr(parameters, name)
    p[:, model.STAGE['thrust_ratio']], p[:, model.STAGE['disturbance']] = e[:, 1:2], e[:, 2:]
    p[:, model.STAGE['time_step']] = flight.time_step
    gains = np.concatenate((parameters.thrust_observer, parameters.force_observer))
    x = np.hstack([before[:, :10], e[:, :1], before[:, 10:]])
    (every,) = _observer_functions()(
        x, flight.inputs, p, np.tile(gains, (n, 1)), flight.measured[1:, VELOCITY]
    )
    every = every.swapaxes(1, 2)  # (n, 5, inputs)
    start = model.NX + model.NU
    by_p, by_gains = every[:, :, start : start + model.NP], every[:, :, start + model.NP :]
    theta = np.zeros((n, N_ESTIMATE, N_THETA))
    for name in ('thrust_gain', 'drag', 'thrust_lag', 'rate_lags'):
        theta[:, :, BLOCKS[name]] = by_p[:, :, model.STAGE[name]]
    theta[:, :, BLOCKS['thrust_observer']] = by_gains[:, :, :1]
    theta[:, :, BLOCKS['force_observer']] = by_gains[:, :, 1:2]
    believed = slice(model.STAGE['thrust_ratio'].start, model.STAGE['disturbance'].stop)
    return [
        _Observed(
            every[t, :, : model.NX], every[t, :, model.NX : start], by_p[t, :, believed],
            by_gains[t, :, 2:], theta[t],
        )
        for t in range(n)
    ]  # fmt: skip


@lru_cache(maxsize=2)
def _body_function(time_step: float) -> BatchedFunction:
    function = body_step(time_step)
    x, seen, constants, force = (ca.SX.sym(f'i{i}', function.size1_in(i)) for i in range(4))
    by = ca.jacobian(function(x, seen, constants, force), ca.vertcat(x, seen))
    return BatchedFunction(ca.Function('bodies', [x, seen, constants, force], [ca.densify(by)]))


def _body_jacobians(simulator: GreyBoxSimulator, flight: flying.TrackedFlight) -> np.ndarray:
    """Return the body's derivative by itself and by what the lags show, (T, 10, 22)."""
    start = np.concatenate(([model.GRAVITY], flight.states[0, RATES]))
    lags = Lags(simulator.box, flight.time_step, start)
    seen = np.array([lags.step(u).ravel() for u in flight.inputs])
    n = flight.steps
    force = np.tile(simulator.box.disturbance, (n, 1))
    arguments = (
        flight.states[:-1, :N_BODY], seen, np.tile(simulator.constants, (n, 1)), force
    )  # fmt: skip
    return _body_function(flight.time_step)(*arguments)[0].swapaxes(1, 2)


def _attitude_rows(q: np.ndarray) -> np.ndarray:
    """Return d(attitude error)/dq (..., 3, 4) = 2 vec(q^-1 * dq)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = ((-x, w, z, -y), (-y, -z, w, x), (-z, y, -x, w))
    return 2 * np.stack([np.stack(row, -1) for row in rows], -2)

