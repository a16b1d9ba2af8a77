"""State of a flying rigid body as simulators, references and policies exchange it.

State ``x`` (13,): position [m] and velocity [m/s] in the world frame (ENU), unit quaternion
``(w, x, y, z)`` that turns body (FLU) into world vectors, body rates [rad/s].
Command ``u`` (4,): thrust over the nominal mass [m/s^2], body rates to reach [rad/s].
Functions take arrays with any leading dimensions.
"""

import numpy as np

from hmpc_ros.plant.odometry import quaternion_from_euler

NX = 13
NU = 4
STATE_NAMES = ('x', 'y', 'z', 'vx', 'vy', 'vz', 'qw', 'qx', 'qy', 'qz', 'p', 'q', 'r')
INPUT_NAMES = ('thrust', 'roll_rate', 'pitch_rate', 'yaw_rate')
GRAVITY = 9.81  # m/s^2

POSITION = slice(0, 3)
VELOCITY = slice(3, 6)
QUATERNION = slice(6, 10)
RATES = slice(10, 13)

# Of the errors that `difference` returns (..., 12).
ND = 12
ATTITUDE_ERROR = slice(6, 9)
RATE_ERRORS = slice(9, 12)


def resting_state(position: np.ndarray | None = None, yaw: float = 0.0) -> np.ndarray:
    """Return the state (13,) at rest and level, at a position [m] (the origin if None)."""
    x = np.zeros(NX)
    if position is not None:
        x[POSITION] = position
    x[6], x[9] = np.cos(yaw / 2), np.sin(yaw / 2)
    return x


def from_euler(x: np.ndarray) -> np.ndarray:
    """Return the state (13,) of one with Euler angles (12,), as `quadcopter` has it."""
    state = np.empty(NX)
    state[:6], state[RATES] = x[:6], x[9:]
    state[QUATERNION] = np.roll(quaternion_from_euler(*x[6:9]), 1)
    return state


def checked_state(x: np.ndarray) -> np.ndarray:
    """Return a copy of a state (13,), its quaternion of length one.

    Raises:
        ValueError: it has the wrong length, is not finite or its quaternion is nearly zero.
    """
    state = np.array(x, dtype=float)
    if state.shape != (NX,) or not np.all(np.isfinite(state)):
        raise ValueError(f'initial state must be {NX} finite numbers, got {x}')
    length = np.linalg.norm(state[QUATERNION])
    if length < 1e-3:
        raise ValueError(
            f'the quaternion {state[QUATERNION]} of the initial state is no attitude: level is '
            '(1, 0, 0, 0)'
        )
    state[QUATERNION] /= length
    return state


def interpolated(times: np.ndarray, stamps: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Return states (m, 13) at times (m,), between those (n, 13) at increasing stamps (n,)."""
    q = states[:, QUATERNION]
    # Between q and -q lies no attitude: each on the side of the one before.
    turns = np.where(np.sum(q[1:] * q[:-1], axis=1) < 0, -1.0, 1.0)
    states = states.copy()
    states[1:, QUATERNION] *= np.cumprod(turns)[:, None]
    found = np.column_stack([np.interp(times, stamps, column) for column in states.T])
    found[:, QUATERNION] /= np.linalg.norm(found[:, QUATERNION], axis=1, keepdims=True)
    return found


def rotation_matrix(q: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 3, 3), body to world, of unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(np.asarray(q, dtype=float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the quaternion products ``a * b`` (..., 4): b's rotation first, then a's."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, dtype=float), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, dtype=float), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return the opposite rotations (..., 4) of unit quaternions."""
    return np.asarray(q, dtype=float) * np.array([1.0, -1.0, -1.0, -1.0])


def attitude_error(q: np.ndarray, q_reference: np.ndarray) -> np.ndarray:
    """Return ``e_q = 2 sgn(s) vec(q_r^-1 * q)`` (..., 3), s its scalar part [rad when small]."""
    turn = multiply(conjugate(q_reference), q)
    return 2 * np.where(turn[..., :1] < 0, -1.0, 1.0) * turn[..., 1:]


def difference(x: np.ndarray, x_reference: np.ndarray) -> np.ndarray:
    """Return the errors (..., 12) of states: position, velocity, attitude (3), rates."""
    x, x_reference = np.asarray(x, dtype=float), np.asarray(x_reference, dtype=float)
    error = x - x_reference
    turn = attitude_error(x[..., QUATERNION], x_reference[..., QUATERNION])
    return np.concatenate([error[..., :6], turn, error[..., RATES]], axis=-1)


def retract(x: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Return the states (..., 13) whose `difference` to ``x`` is ``delta`` (..., 12).

    An attitude error longer than 2 (half a turn) is no attitude's; it is shortened to 2.
    """
    x, delta = np.asarray(x, dtype=float), np.asarray(delta, dtype=float)
    half = delta[..., ATTITUDE_ERROR] / 2
    half = half / np.maximum(1.0, np.linalg.norm(half, axis=-1, keepdims=True))
    scalar = np.sqrt(np.maximum(0.0, 1 - np.sum(half * half, axis=-1, keepdims=True)))
    q = multiply(x[..., QUATERNION], np.concatenate([scalar, half], axis=-1))
    moved = x[..., :6] + delta[..., :6]
    rates = x[..., RATES] + delta[..., RATE_ERRORS]
    return np.concatenate([moved, q, rates], axis=-1)
