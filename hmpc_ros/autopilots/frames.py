"""Between the frames of autopilots (NED world, FRD body) and of ROS (ENU world, FLU body; REP-103).

Both pairs are turned into each other by half turns, which are their own inverse:

    world  T: (n, e, d) -> (e, n, -d)    half a turn about (1, 1, 0) / sqrt(2)
    body   B: (f, r, d) -> (f, -r, -d)   half a turn about (1, 0, 0)

and R_enu_flu = T R_ned_frd B. As quaternions (w, x, y, z) with T = (0, s, s, 0), s = 1/sqrt(2), and
B = (0, 1, 0, 0), up to a sign that means nothing:

    T (w, x, y, z) B = s (-w - z, -x - y, y - x, z - w) ~ s (w + z, x + y, x - y, w - z),

so that the same function goes both ways. What is not finite stays not finite, component by
component: an autopilot says NaN for what it does not know, and no arithmetic here hides that.
"""

import math

from hmpc_ros.plant.odometry import Four, Three

_HALF = math.sqrt(0.5)

# How far |q|^2 of a message in single precision may be from 1.
UNIT_TOLERANCE = 1e-3


def world(north: float, east: float, down: float) -> Three:
    """Turn a vector between NED and ENU: either way."""
    return east, north, -down


def body(forward: float, right: float, down: float) -> Three:
    """Turn a vector, or rates [rad/s], between FRD and FLU: either way."""
    return forward, -right, -down


def orientation(w: float, x: float, y: float, z: float) -> Four:
    """Turn a quaternion (w, x, y, z) between FRD in NED and FLU in ENU: either way.

    Returns:
        (w, x, y, z), of the same length; w is not negative, since q and -q are one orientation.
    """
    turned = _HALF * (w + z), _HALF * (x + y), _HALF * (x - y), _HALF * (w - z)
    if turned[0] < 0.0:
        return -turned[0], -turned[1], -turned[2], -turned[3]
    return turned


def is_rotation(w: float, x: float, y: float, z: float) -> bool:
    """Say whether a quaternion is finite and of unit length, to single precision."""
    return abs(w * w + x * x + y * y + z * z - 1.0) <= UNIT_TOLERANCE  # False for NaN


def heading(yaw: float) -> float:
    """Turn a yaw angle [rad] between clockwise from north and counter-clockwise from east.

    Returns:
        In [-pi, pi].
    """
    return math.remainder(math.pi / 2 - yaw, 2.0 * math.pi)
