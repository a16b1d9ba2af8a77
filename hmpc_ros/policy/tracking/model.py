"""The formulas of the tracking MPC: prediction model, flat reference and residual, in CasADi.

State x (14,): p, v (world, ENU), q (wxyz, body FLU to world), a (thrust acceleration now), w (body
rates); input u (4,): a_c (commanded thrust acceleration), w_c (commanded rates). SI units.

    p' = v                         v' = -g e3 + k_T a R(q) e3 - R D R' v + d
    q' = 1/2 q * (0, w)            a' = (a_c - a) / tau_a         w' = (w_c - w) / tau_w

Everything a stage knows besides x and u is one vector of parameters: the sample of the reference,
weights, limits, model, estimates and the step's length. The reference's state and input come out
of the sample *inside* the residual, so that a derivative with respect to k_T, drag or the
estimates includes what they do to the reference.
"""

from dataclasses import dataclass

import casadi as ca

GRAVITY = 9.81  # m/s^2
NX, NU = 14, 4
POSITION, VELOCITY, ATTITUDE = slice(0, 3), slice(3, 6), slice(6, 10)
THRUST, RATES = slice(10, 11), slice(11, 14)

_FIELDS = {
    # Sample of the reference.
    'position_r': 3, 'velocity_r': 3, 'acceleration_r': 3, 'jerk_r': 3, 'yaw_r': 1, 'yaw_rate_r': 1,
    'snap_r': 3,
    # Square roots of weights.
    'position': 3, 'velocity': 3, 'attitude': 3, 'rates': 3, 'thrust': 1, 'rate_commands': 3,
    'tilt_slack': 1, 'speed_slack': 1,
    # Model.
    'thrust_gain': 1, 'drag': 3, 'thrust_lag': 1, 'rate_lags': 3,
    # Estimates: k_T is thrust_gain * thrust_ratio.
    'thrust_ratio': 1, 'disturbance': 3,
    # Limits [1, m/s] and the length of the step [s].
    'tilt_limit': 1, 'speed_limit': 1, 'time_step': 1,
}  # fmt: skip


def _slices(sizes: dict[str, int]) -> dict[str, slice]:
    slices, start = {}, 0
    for name, size in sizes.items():
        slices[name] = slice(start, start + size)
        start += size
    return slices


#: Where each field lies in a stage's parameters.
STAGE = _slices(_FIELDS)
NP = sum(_FIELDS.values())
#: A sample of the reference: position, velocity, acceleration, jerk, yaw, yaw rate.
N_SAMPLE = STAGE['yaw_rate_r'].stop


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage's parameters by name, read from the vector p (NP,)."""

    p: ca.SX

    def __getattr__(self, name: str) -> ca.SX:
        """Return a field of `STAGE`."""
        try:
            return self.p[STAGE[name]]
        except KeyError as error:
            raise AttributeError(name) from error

    @property
    def gain(self) -> ca.SX:
        """k_T as it is believed now."""
        return self.thrust_gain * self.thrust_ratio


def rotation(q: ca.SX) -> ca.SX:
    """Return R(q) (3, 3) of a quaternion wxyz."""
    w, x, y, z = (q[i] for i in range(4))
    return ca.vertcat(
        ca.horzcat(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        ca.horzcat(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        ca.horzcat(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


def product(q: ca.SX, r: ca.SX) -> ca.SX:
    """Return the quaternion q * r."""
    return ca.vertcat(q[0] * r[0] - ca.dot(q[1:], r[1:]),
                      q[0] * r[1:] + r[0] * q[1:] + ca.cross(q[1:], r[1:]))  # fmt: skip


def _turn(angle: ca.SX) -> ca.SX:
    """Return the quaternion of a rotation vector (3,) below about 1 rad, smooth at zero too."""
    y = ca.dot(angle, angle) / 4
    cosine = 1 - y / 2 * (1 - y / 12 * (1 - y / 30))
    sine = 1 - y / 6 * (1 - y / 20 * (1 - y / 42))
    return ca.vertcat(cosine, sine / 2 * angle)


def step(x: ca.SX, u: ca.SX, s: Stage) -> ca.SX:
    """Return the state one time step later under a constant command.

    The lags are exact (exponentials), however short they are, and so are the integrals of thrust
    and rates over the step: nothing can become unstable. The attitude turns by the integrated
    rates, half a step at a time; v and p follow by RK4 with the attitude at the beginning, in the
    middle and at the end. Of the thrust in the middle that value is taken with which Simpson's
    rule, RK4 for known forces, gives the exact integral.
    """
    h = s.time_step
    decay = ca.exp(-h / s.thrust_lag)
    a = x[THRUST]
    a_end = u[0] + (a - u[0]) * decay
    mean = u[0] + (a - u[0]) * (1 - decay) * s.thrust_lag / h
    a_middle = (6 * mean - a - a_end) / 4

    decay_w = ca.exp(-h / (2 * s.rate_lags))
    w, w_c = x[RATES], u[1:]
    w_middle = w_c + (w - w_c) * decay_w
    w_end = w_c + (w_middle - w_c) * decay_w
    q = x[ATTITUDE]
    q_middle = product(q, _turn(h / 2 * w_c + s.rate_lags * (w - w_middle)))
    q_end = product(q_middle, _turn(h / 2 * w_c + s.rate_lags * (w_middle - w_end)))

    def slope(R: ca.SX, a: ca.SX, v: ca.SX) -> ca.SX:
        force = s.gain * a * R[:, 2] - R @ (s.drag * (R.T @ v))
        return force + s.disturbance - ca.vertcat(0, 0, GRAVITY)

    p, v = x[POSITION], x[VELOCITY]
    first, middle, last = rotation(q), rotation(q_middle), rotation(q_end)
    k1 = slope(first, a, v)
    k2 = slope(middle, a_middle, v + h / 2 * k1)
    k3 = slope(middle, a_middle, v + h / 2 * k2)
    k4 = slope(last, a_end, v + h * k3)
    p_end = p + h * v + h**2 / 6 * (k1 + k2 + k3)
    v_end = v + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ca.vertcat(p_end, v_end, q_end, a_end, w_end)


def flat_reference(s: Stage) -> tuple[ca.SX, ca.SX]:
    """Return x_r (14,) and u_r (4,) with which the model flies the sample of the reference.

    The formulas of `plant.reference.flatness`, in the frame turned by yaw as there:
    R = Rz(yaw) Ry(pitch) Rx(roll), and three turns for what drag makes implicit.
    """
    c, n = ca.cos(s.yaw_r), ca.sin(s.yaw_r)

    def turned(a: ca.SX) -> ca.SX:
        return ca.vertcat(c * a[0] + n * a[1], c * a[1] - n * a[0], a[2])

    v, acceleration = turned(s.velocity_r), turned(s.acceleration_r)
    free = turned(s.acceleration_r - s.disturbance) + ca.vertcat(0, 0, GRAVITY)
    force = free
    for turn in range(4):
        size, upright = ca.norm_2(force), ca.sqrt(force[0] ** 2 + force[2] ** 2)
        sr, cr, sp, cp = -force[1] / size, upright / size, force[0] / upright, force[2] / upright
        R = ca.vertcat(
            ca.horzcat(cp, sp * sr, sp * cr),
            ca.horzcat(0, cr, -sr),
            ca.horzcat(-sp, cp * sr, cp * cr),
        )
        if turn < 3:
            force = free + R @ (s.drag * (R.T @ v))

    h, v_b, D = R.T @ turned(s.jerk_r), R.T @ v, s.drag
    h = h + D * (R.T @ acceleration)
    w = ca.SX.zeros(3)
    for _ in range(3):
        g = h + ca.cross(w, D * v_b) - D * ca.cross(w, v_b)
        w_y = g[0] / size
        w = ca.vertcat(-g[1] / size, w_y, (s.yaw_rate_r * cp - w_y * sr) / cr)

    half = (s.yaw_r / 2, ca.atan2(sp, cp) / 2, ca.atan2(sr, cr) / 2)
    q = ca.vertcat(ca.cos(half[0]), 0, 0, ca.sin(half[0]))
    q = product(q, ca.vertcat(ca.cos(half[1]), 0, ca.sin(half[1]), 0))
    q = product(q, ca.vertcat(ca.cos(half[2]), ca.sin(half[2]), 0, 0))
    a = size / s.gain
    return ca.vertcat(s.position_r, s.velocity_r, q, a, w), ca.vertcat(a, w)


def _commands() -> ca.Function:
    """Write p -> (x_r, u_r), the commands ahead of x_r by what the lags take: u + tau u'.

    Commands of the flat reference itself would be late by the lags, and weighing commands would
    pull the vehicle off its path. Time derivatives by the chain rule through the sample.
    """
    p = ca.SX.sym('p', NP)
    s = Stage(p)
    x_r, u_r = flat_reference(s)
    rate = ca.SX.zeros(NP)
    for name, derivative in (
        ('velocity_r', s.acceleration_r), ('acceleration_r', s.jerk_r), ('jerk_r', s.snap_r),
        ('yaw_r', s.yaw_rate_r),
    ):  # fmt: skip
        rate[STAGE[name]] = derivative
    lags = ca.vertcat(s.thrust_lag, s.rate_lags)
    return ca.Function('commands', [p], [x_r, u_r + lags * ca.jtimes(u_r, p, rate)])


_COMMANDS = _commands()


def attitude_error(q_r: ca.SX, q: ca.SX) -> ca.SX:
    """Return 2 sgn(s) vec(q_r^-1 * q) (3,), s its scalar part: about the rotation vector [rad]."""
    error = product(ca.vertcat(q_r[0], -q_r[1:]), q)
    return ca.if_else(error[0] < 0, -2, 2) * error[1:]


def state_residual(x: ca.SX, s: Stage) -> ca.SX:
    """Return the weighted errors of a state (14,): p, v, e_q, w, excess of tilt and of speed."""
    x_r, _ = flat_reference(s)
    q, v = x[ATTITUDE], x[VELOCITY]
    tilt = 2 * (q[1] ** 2 + q[2] ** 2)  # 1 - R33
    speed = (ca.dot(v, v) - s.speed_limit**2) / (2 * s.speed_limit)
    return ca.vertcat(
        s.position * (x[POSITION] - x_r[POSITION]),
        s.velocity * (v - x_r[VELOCITY]),
        s.attitude * attitude_error(x_r[ATTITUDE], q),
        s.rates * (x[RATES] - x_r[RATES]),
        s.tilt_slack * ca.fmax(0, tilt - s.tilt_limit),
        s.speed_slack * ca.fmax(0, speed),
    )


def residual(x: ca.SX, u: ca.SX, s: Stage) -> ca.SX:
    """Return the weighted errors of a stage (18,); it costs half their squared sum."""
    _, u_r = _COMMANDS(s.p)
    return ca.vertcat(
        state_residual(x, s), s.thrust * (u[0] - u_r[0]), s.rate_commands * (u[1:] - u_r[1:])
    )


N_RESIDUAL, N_STATE_RESIDUAL = 18, 14
