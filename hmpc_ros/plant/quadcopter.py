"""Rigid-body quadcopter with rotors in a "+" or an "x": dynamics, integrators, Jacobians, hover.

State ``x`` (12,): position [m] and velocity [m/s] in the world frame (ENU, z up), roll, pitch, yaw
[rad] (ZYX Euler angles), body rates p, q, r [rad/s] (FLU body frame).
Input ``u`` (4,): rotor speeds [rad/s] of the front, right, back and left rotor; in an "x", which is
the "+" turned by 45 degrees to the left, of the front left, front right, back right, back left one.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import casadi as ca
import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.odometry import quaternion_from_euler

NX = 12
NU = 4
STATE_NAMES = ('x', 'y', 'z', 'vx', 'vy', 'vz', 'roll', 'pitch', 'yaw', 'p', 'q', 'r')
INPUT_NAMES = ('rotor_1', 'rotor_2', 'rotor_3', 'rotor_4')
INTEGRATORS = ('euler', 'rk4')
FRAMES = ('plus', 'x')
TIME_STEP = 0.1  # s

POSITION = slice(0, 3)
VELOCITY = slice(3, 6)
ATTITUDE = slice(6, 9)
RATES = slice(9, 12)
YAW = 8


def difference(x: np.ndarray, x_reference: np.ndarray) -> np.ndarray:
    """Return the errors (..., 12) of states, yaw within half a turn."""
    error = np.asarray(x, dtype=float) - np.asarray(x_reference, dtype=float)
    error[..., YAW] = (error[..., YAW] + math.pi) % (2 * math.pi) - math.pi
    return error


def retract(x: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Return the states (..., 12) whose `difference` to ``x`` is ``delta`` (..., 12)."""
    return np.asarray(x, dtype=float) + np.asarray(delta, dtype=float)


def quaternion(x: np.ndarray) -> np.ndarray:
    """Return the attitudes (..., 4) of states (..., 12), w first."""
    angles = np.asarray(x, dtype=float)[..., ATTITUDE]
    rows = [quaternion_from_euler(*each) for each in angles.reshape(-1, 3).tolist()]
    return np.roll(np.reshape(rows, (*angles.shape[:-1], 4)), 1, axis=-1)


# By how much a moment of inertia may exceed the sum of the other two. No rigid body's does, but
# published vehicles' do, by rounding and errors of measurement (a Crazyflie's by 1 %).
INERTIA_TOLERANCE = 0.03


@dataclass(frozen=True)
class QuadcopterParameters:
    """Physical constants of the vehicle; the defaults are those of Abdulkareem et al., 2022.

    Raises:
        ValueError: a constant is not finite, or unphysical (which one and why is in the message).
    """

    mass: float = parameter(0.468, 'mass', 'kg', 1e-3)
    arm_length: float = parameter(0.225, 'centre to rotor', 'm', 1e-3)
    rotor_inertia: float = parameter(3.357e-5, 'inertia of a rotor about its axis', 'kg m^2', 0.0)
    thrust_coefficient: float = parameter(
        2.98e-6, 'thrust of a rotor over its squared speed', 'N s^2', 1e-12
    )
    drag_torque_coefficient: float = parameter(
        1.14e-7, 'drag torque of a rotor over its squared speed', 'N m s^2', 1e-12
    )
    inertia: tuple[float, float, float] = parameter(
        (4.856e-3, 4.856e-3, 8.801e-3), 'principal moments of inertia about x, y, z', 'kg m^2', 1e-9
    )
    linear_drag: tuple[float, float, float] = parameter(
        (0.25, 0.25, 0.25), 'drag force over velocity, world x, y, z', 'N s/m', 0.0
    )
    gravity: float = parameter(9.81, 'gravity', 'm/s^2', 1e-3)
    frame: str = parameter(
        'plus', 'where rotor_1 is: in front (plus) or front left (x); the others follow clockwise',
        choices=FRAMES,
    )  # fmt: skip
    rotor_directions: tuple[int, int, int, int] = parameter(
        (-1, 1, -1, 1), 'sign of the drag torque about z of rotor_1 ... rotor_4', low=-1, high=1
    )

    def __post_init__(self) -> None:
        """Refuse what no vehicle can be."""
        if self.frame not in FRAMES:
            raise ValueError(f"frame '{self.frame}' is unknown: use one of {', '.join(FRAMES)}")
        directions = tuple(int(each) for each in self.rotor_directions)
        if directions not in ((-1, 1, -1, 1), (1, -1, 1, -1)):
            raise ValueError(
                f'rotor_directions = {list(directions)} must be 1 and -1 in turn: neighbours turn '
                'against each other'
            )
        object.__setattr__(self, 'rotor_directions', directions)
        for constant in fields(self):
            if constant.name in ('frame', 'rotor_directions'):
                continue
            value = getattr(self, constant.name)
            values = np.atleast_1d(np.asarray(value, dtype=float))
            expected = 3 if constant.name in ('inertia', 'linear_drag') else 1
            if values.size != expected:
                raise ValueError(f'{constant.name} needs {expected} number(s), got {values.size}')
            lowest_allowed = constant.name in ('rotor_inertia', 'linear_drag')
            bad = values < 0 if lowest_allowed else values <= 0
            if not np.all(np.isfinite(values)) or np.any(bad):
                bound = 'at least 0' if lowest_allowed else 'greater than 0'
                raise ValueError(
                    f'{constant.name} = {value} is unphysical: it must be {bound} and finite'
                )
            # Plain Python numbers whatever came in: hashing and YAML output rely on it.
            plain: Any = tuple(float(v) for v in values) if expected == 3 else float(values[0])
            object.__setattr__(self, constant.name, plain)
        largest = max(self.inertia)
        excess = largest / (sum(self.inertia) - largest) - 1
        if excess > INERTIA_TOLERANCE:
            raise ValueError(
                f'inertia = {self.inertia} is unphysical: no principal moment of a rigid body '
                f'exceeds the sum of the other two, by {excess:.1%} here; measurements may be off '
                f'by {INERTIA_TOLERANCE:.0%}'
            )
        if excess > 1e-9:
            warnings.warn(
                f'inertia = {self.inertia}: one principal moment exceeds the sum of the other two '
                f'by {excess:.1%}, which no rigid body has: taken for an error of measurement',
                stacklevel=3,
            )

    @property
    def hover_speed(self) -> float:
        """Rotor speed [rad/s] at which four rotors carry the weight."""
        return math.sqrt(self.mass * self.gravity / (4 * self.thrust_coefficient))


def continuous_dynamics(parameters: QuadcopterParameters) -> ca.Function:
    """Return ``(x, u, force) -> dx/dt`` as a CasADi function.

    Thrust along the body's z axis, drag against the velocity, moments of the arms' thrust, of the
    rotors' drag and of their gyroscopic effect.

    ``force`` (3,) is an external force in the world frame [N], e.g. wind.
    """
    p = parameters
    ix, iy, iz = p.inertia
    x, u, force = ca.SX.sym('x', NX), ca.SX.sym('u', NU), ca.SX.sym('force', 3)
    velocity = x[VELOCITY]
    phi, theta, psi = x[6], x[7], x[8]
    roll_rate, pitch_rate, yaw_rate = x[9], x[10], x[11]
    w1, w2, w3, w4 = u[0], u[1], u[2], u[3]

    thrust_acceleration = p.thrust_coefficient * ca.sumsqr(u) / p.mass
    d1, d2, d3, d4 = p.rotor_directions
    residual_speed = d2 * w2 + d1 * w1 + d4 * w4 + d3 * w3
    thrust_direction = ca.vertcat(
        ca.cos(psi) * ca.sin(theta) * ca.cos(phi) + ca.sin(psi) * ca.sin(phi),
        ca.sin(psi) * ca.sin(theta) * ca.cos(phi) - ca.cos(psi) * ca.sin(phi),
        ca.cos(theta) * ca.cos(phi),
    )
    acceleration = (
        thrust_acceleration * thrust_direction
        - ca.vertcat(0, 0, p.gravity)
        + (force - ca.DM(p.linear_drag) * velocity) / p.mass
    )
    euler_rates = ca.vertcat(
        roll_rate + ca.tan(theta) * (ca.sin(phi) * pitch_rate + ca.cos(phi) * yaw_rate),
        ca.cos(phi) * pitch_rate - ca.sin(phi) * yaw_rate,
        (ca.sin(phi) * pitch_rate + ca.cos(phi) * yaw_rate) / ca.cos(theta),
    )
    if p.frame == 'plus':
        lever = p.arm_length * p.thrust_coefficient
        roll, pitch = w4**2 - w2**2, w3**2 - w1**2
    else:
        lever = math.sqrt(0.5) * p.arm_length * p.thrust_coefficient
        roll, pitch = w1**2 - w2**2 - w3**2 + w4**2, -(w1**2) - w2**2 + w3**2 + w4**2
    gyro = p.rotor_inertia * residual_speed
    rate_derivatives = ca.vertcat(
        ((iy - iz) * pitch_rate * yaw_rate - gyro * pitch_rate + lever * roll) / ix,
        ((iz - ix) * roll_rate * yaw_rate + gyro * roll_rate + lever * pitch) / iy,
        (
            (ix - iy) * roll_rate * pitch_rate
            + p.drag_torque_coefficient * (d4 * w4**2 + d3 * w3**2 + d2 * w2**2 + d1 * w1**2)
        )
        / iz,
    )
    derivative = ca.vertcat(velocity, acceleration, euler_rates, rate_derivatives)
    return ca.Function('quadcopter', [x, u, force], [derivative], ['x', 'u', 'force'], ['dx'])


def discretise(
    dynamics: ca.Function, time_step: float, integrator: str = 'euler', substeps: int = 1
) -> ca.Function:
    """Return ``(x, u, force) -> x_next`` with the input held over the step.

    Args:
        dynamics: ``(x, u, force) -> dx/dt``.
        time_step: length of the step [s].
        integrator: ``euler`` (explicit, the reference experiment's) or ``rk4``.
        substeps: how many equal integration steps make one time step.

    Raises:
        ValueError: unknown integrator, or a step or a number of sub-steps that is not positive.
    """
    if integrator not in INTEGRATORS:
        raise ValueError(
            f"integrator '{integrator}' is unknown: use one of {', '.join(INTEGRATORS)}"
        )
    if not (math.isfinite(time_step) and time_step > 0):
        raise ValueError(f'time_step = {time_step} s must be positive and finite')
    if substeps < 1:
        raise ValueError(f'substeps = {substeps} must be at least 1')
    x, u, force = ca.SX.sym('x', NX), ca.SX.sym('u', NU), ca.SX.sym('force', 3)
    h = time_step / substeps
    state = x
    for _ in range(substeps):
        if integrator == 'euler':
            state = state + h * dynamics(state, u, force)
        else:
            k1 = dynamics(state, u, force)
            k2 = dynamics(state + h / 2 * k1, u, force)
            k3 = dynamics(state + h / 2 * k2, u, force)
            k4 = dynamics(state + h * k3, u, force)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ca.Function('step', [x, u, force], [state], ['x', 'u', 'force'], ['x_next'])


class Quadcopter:
    """The vehicle in discrete time: one step, its Jacobians, hover and the hover linearisation."""

    def __init__(
        self,
        parameters: QuadcopterParameters | None = None,
        time_step: float = TIME_STEP,
        integrator: str = INTEGRATORS[0],
        substeps: int = 1,
    ) -> None:
        """Build the step function and its Jacobians.

        Raises:
            ValueError: see `discretise`.
        """
        self.parameters = parameters or QuadcopterParameters()
        self.time_step = float(time_step)
        self.integrator = integrator
        self.substeps = int(substeps)
        x, u, force = ca.SX.sym('x', NX), ca.SX.sym('u', NU), ca.SX.sym('force', 3)
        step = discretise(
            continuous_dynamics(self.parameters), self.time_step, integrator, self.substeps
        )
        x_next = step(x, u, force)
        derivatives = [ca.densify(ca.jacobian(x_next, wrt)) for wrt in (x, u)]
        jacobians = ca.Function('jacobians', [x, u, force], derivatives)
        self._step = _BufferedFunction(step)
        self._jacobians = _BufferedFunction(jacobians)

    def __reduce__(self) -> tuple:
        """Pickle by construction arguments (CasADi buffers cannot be sent to a worker process)."""
        arguments = (self.parameters, self.time_step, self.integrator, self.substeps)
        return (Quadcopter, arguments)

    @property
    def hover_input(self) -> np.ndarray:
        """Rotor speeds (4,) [rad/s] of the hover equilibrium."""
        return np.full(NU, self.parameters.hover_speed)

    def step(
        self, x: np.ndarray, u: np.ndarray, force: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> np.ndarray:
        """Return the state (12,) after one time step under rotor speeds (4,) [rad/s].

        The external force (3,) [N], world frame, and the speeds are held over the step.
        """
        return self._step(x, u, force)[0].reshape(NX)

    def jacobians(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivatives of one step: A (12, 12) with respect to x, B (12, 4) to u."""
        a, b = self._jacobians(x, u, (0.0, 0.0, 0.0))
        return a, b

    def jacobians_along(
        self, states: np.ndarray, inputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return A (T, 12, 12) and B (T, 12, 4) of the step along states (T, 12) and inputs (T, 4).

        Position and the frame's origin do not matter to the result.
        """
        steps = len(inputs)
        a, b = np.empty((steps, NX, NX)), np.empty((steps, NX, NU))
        for t in range(steps):
            a[t], b[t] = self.jacobians(states[t], inputs[t])
        return a, b

    def linearise(self) -> LinearModel:
        """Return the exact linearisation of the discrete step about hover, in deviations."""
        hover = self.hover_input
        a, b = self.jacobians(np.zeros(NX), hover)
        return LinearModel(a, b, np.zeros(NX), self.time_step, hover)


class _BufferedFunction:
    """A CasADi function called through its buffer: 4 us instead of 47 us with DM conversion."""

    def __init__(self, function: ca.Function) -> None:
        self._arguments = [np.zeros(function.size1_in(i)) for i in range(function.n_in())]
        memory = [np.zeros(function.numel_out(i)) for i in range(function.n_out())]
        self._buffer, self._evaluate = function.buffer()
        for i, argument in enumerate(self._arguments):
            self._buffer.set_arg(i, argument.data)
        for i, result in enumerate(memory):
            self._buffer.set_res(i, result.data)
        # CasADi stores matrices column by column; these are views, not copies.
        self._results = [
            result.reshape(function.size_out(i), order='F') for i, result in enumerate(memory)
        ]

    def __call__(self, *arguments: Sequence[float] | np.ndarray) -> list[np.ndarray]:
        for own, given in zip(self._arguments, arguments, strict=True):
            own[:] = given
        self._evaluate()
        return [result.copy() for result in self._results]
