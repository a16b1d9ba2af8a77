"""A grey box in flight: what is known of a vehicle, to rehearse on; fifty times as fast as it."""

from collections import deque

import casadi as ca
import numpy as np

from hmpc_ros.plant.grey_box import GreyBox, rate_response
from hmpc_ros.plant.presets import Preset
from hmpc_ros.plant.quadcopter import _BufferedFunction
from hmpc_ros.plant.rigid_body import GRAVITY, RATES, checked_state, resting_state, retract

N_BODY = 10  # position, velocity, quaternion


class Lags:
    """Thrust and rates (4,) behind their lags and delay, or columns of their derivative (4, n).

    They live at half steps, and are seen by a whole delay and a part of a half step later.
    """

    def __init__(self, box: GreyBox, step: float, start: np.ndarray) -> None:
        """Begin where thrust and rates have been for long, (4,) or (4, n)."""
        half = step / 2
        self._lags, self._inputs = np.zeros((7, 7)), np.zeros((7, 4))
        decay = np.exp(-half / box.thrust_lag)
        self._lags[0, 0], self._inputs[0, 0] = decay, 1 - decay
        for axis in range(3):
            A, B = rate_response(box.rate_lags[axis], box.rate_shapes[axis], half)
            rows = [1 + axis, 4 + axis]
            self._lags[np.ix_(rows, rows)], self._inputs[rows, 1 + axis] = A, B
        whole, self._part = divmod(box.delay / half, 1.0)
        self._state = np.concatenate((start, np.zeros_like(start[1:])))
        self._past = deque([start] * (int(whole) + 2), maxlen=int(whole) + 4)

    def step(self, u: np.ndarray) -> np.ndarray:
        """Go one step on; return what is seen at its beginning, middle and end, (3, 4, ...)."""
        drive = self._inputs @ u
        for _ in range(2):
            self._state = self._lags @ self._state + drive
            self._past.append(self._state[:4])
        seen = np.array([self._past[i] for i in range(4)])
        return (1 - self._part) * seen[1:] + self._part * seen[:-1]


class GreyBoxSimulator:
    """Implements `Simulator` with the numbers of a `GreyBox` alone."""

    def __init__(
        self,
        box: GreyBox,
        preset: Preset,
        time_step: float = 0.01,
        noise: np.ndarray | None = None,
        forces: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        """Start flight 0 at the origin, at rest.

        Args:
            box: the vehicle.
            preset: what its controller assumes of it and may command.
            time_step: control period [s].
            noise: standard deviations (12,) of what is measured; none if None.
            forces: accelerations (T, 3) [m/s^2] beside the box' own, one per control period of a
                flight; later ones are 0.
            seed: of the noise.
        """
        self.box = box
        self.preset = preset
        self.parameters, self.limits, self.model = preset.airframe, preset.limits, preset.model
        self.time_step = float(time_step)
        self.seed = int(seed)
        self._noise = np.zeros(12) if noise is None else np.asarray(noise, dtype=float)
        self._forces = np.zeros((0, 3)) if forces is None else np.asarray(forces, dtype=float)
        self._advance = _BufferedFunction(body_step(self.time_step))
        self.constants = np.array([box.thrust_gain, *box.drag])
        self._steady = np.array(box.disturbance)
        self.flight = -1
        self.reset(resting_state())

    def reset(self, x0: np.ndarray, flight: int | None = None) -> None:
        """Begin a flight at a state (13,), thrust at nominal hover."""
        state = checked_state(x0)
        self.flight = self.flight + 1 if flight is None else int(flight)
        self._sensors = np.random.default_rng([self.seed, self.flight])
        self._state = state
        self._lags = Lags(self.box, self.time_step, np.concatenate(([GRAVITY], state[RATES])))
        self._count = 0
        self._measurement: np.ndarray | None = None

    def step(self, u: np.ndarray) -> None:
        """Fly one control period under a command (4,)."""
        seen = self._lags.step(u)
        force = self._steady
        if self._count < len(self._forces):
            force = force + self._forces[self._count]
        body = self._advance(self._state[:N_BODY], seen.ravel(), self.constants, force)[0]
        self._state = np.concatenate((body.ravel(), seen[2, 1:]))
        self._count += 1
        self._measurement = None

    def truth(self) -> np.ndarray:
        """Return the state (13,) as it is."""
        return self._state.copy()

    def measure(self) -> np.ndarray:
        """Return the state (13,) as sensors give it: the same however often asked in a step."""
        if self._measurement is None:
            self._measurement = self._state
            if self._noise.any():
                error = self._noise * self._sensors.standard_normal(12)
                self._measurement = retract(self._state, error)
        return self._measurement.copy()


def body_step(h: float) -> ca.Function:
    """Write (body, (a, w) at the step's three instants, (k_T, D), force) -> body after h [s].

    Simpson's rule, RK4 for known forces; the attitude turns by the mean rates of each half.
    """
    x, seen = ca.SX.sym('x', N_BODY), ca.SX.sym('seen', 12)
    constants, force = ca.SX.sym('constants', 4), ca.SX.sym('force', 3)
    p, v, q = x[0:3], x[3:6], x[6:10]
    known = ca.reshape(seen, 4, 3)
    a, w = known[0, :], known[1:, :]
    # Of a parabola through the three rates, integrated over each half.
    first = h / 24 * (5 * w[:, 0] + 8 * w[:, 1] - w[:, 2])
    second = h / 24 * (-w[:, 0] + 8 * w[:, 1] + 5 * w[:, 2])
    q_middle = _turned(q, first)
    q_end = _turned(q_middle, second)

    def slope(q: ca.SX, a: ca.SX, v: ca.SX) -> ca.SX:
        R = _matrix(q)
        own = constants[0] * a * R[:, 2] - R @ (constants[1:] * (R.T @ v))
        return own + force - ca.vertcat(0, 0, GRAVITY)

    k1 = slope(q, a[0], v)
    k2 = slope(q_middle, a[1], v + h / 2 * k1)
    k3 = slope(q_middle, a[1], v + h / 2 * k2)
    k4 = slope(q_end, a[2], v + h * k3)
    p_end = p + h * v + h**2 / 6 * (k1 + k2 + k3)
    v_end = v + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ca.Function(
        'body', [x, seen, constants, force], [ca.vertcat(p_end, v_end, q_end / ca.norm_2(q_end))]
    )


def _turned(q: ca.SX, angle: ca.SX) -> ca.SX:
    """Return q turned by a small rotation vector in body axes."""
    y = ca.dot(angle, angle) / 4
    scalar, vector = 1 - y / 2 * (1 - y / 12), angle / 2 * (1 - y / 6 * (1 - y / 20))
    return ca.vertcat(
        q[0] * scalar - ca.dot(q[1:], vector),
        q[0] * vector + scalar * q[1:] + ca.cross(q[1:], vector),
    )


def _matrix(q: ca.SX) -> ca.SX:
    w, x, y, z = ca.vertsplit(q)
    return ca.vertcat(
        ca.horzcat(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        ca.horzcat(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        ca.horzcat(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
