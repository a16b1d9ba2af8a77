"""Crazyflies behind Crazyswarm2: what their server tells and takes, in the frames of ROS.

A Crazyflie has no modes: set-points go before its high-level commander (take-off, go-to, landing)
from the first one on until its server is told that they stop. Messages are read and written by
their fields; whose classes they are is the caller's affair.
"""

from __future__ import annotations

import math
from typing import Any

from hmpc_ros.autopilots.state import VehicleState, from_enu
from hmpc_ros.plant.odometry import Four, Three, euler_from_quaternion, to_body

# Bits of Status.supervisor_info.
CAN_FLY, FLYING, TUMBLED, LOCKED = 8, 16, 32, 64
LOW_POWER = 3  # Status.pm_state: this, or 4, which is about to switch off
# cmd_vel_legacy: what the firmware makes of thrust; below the least, motors stop.
FULL_THRUST, MOST_THRUST, LEAST_THRUST = 65535.0, 60000.0, 1000.0
SMOOTHING = 0.02  # s, of rates that are differences of orientations
GAP = 0.2  # s between two orientations, beyond which their difference says nothing


class TurnRates:
    """Body rates [rad/s] from orientations: the server's odometry has none."""

    def __init__(self) -> None:
        self._last: tuple[float, Four] | None = None
        self._rates: Three = (0.0, 0.0, 0.0)

    def at(self, stamp: float, orientation: Four) -> Three:
        """Take in an orientation (w, x, y, z) at a time [s]; return the rates there.

        From q- to q within dt the body turns by 2 vec(q-^-1 q) / dt, for a small angle, the sign
        of q being free.
        """
        last, self._last = self._last, (stamp, orientation)
        step = 0.0 if last is None else stamp - last[0]
        if last is None or not 0.0 < step <= GAP:
            self._rates = (0.0, 0.0, 0.0)
            return self._rates
        (a, b, c, d), (w, x, y, z) = last[1], orientation
        scalar = a * w + b * x + c * y + d * z
        turned = (
            a * x - b * w - c * z + d * y,
            a * y + b * z - c * w - d * x,
            a * z - b * y + c * x - d * w,
        )
        scale = math.copysign(2.0, scalar) / step
        share = step / (step + SMOOTHING)
        p, q, r = (
            old + share * (scale * new - old) for old, new in zip(self._rates, turned, strict=True)
        )
        self._rates = (p, q, r)
        return self._rates


def state_from_odometry(message: Any, rates: TurnRates) -> VehicleState:
    """Return the state of the server's Odometry, whose velocity is in the world frame.

    Raises:
        BadEstimateError: it is not a state to fly on.
    """
    stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
    at, turned = message.pose.pose.position, message.pose.pose.orientation
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    quaternion = (turned.w, turned.x, turned.y, turned.z)
    velocity = to_body((turned.x, turned.y, turned.z, turned.w), linear.x, linear.y, linear.z)
    told = (angular.x, angular.y, angular.z)
    state = from_enu(stamp, (at.x, at.y, at.z), quaternion, velocity, told)
    if any(told):
        return state
    found = rates.at(stamp, quaternion)
    return VehicleState(stamp, state.position, state.orientation, state.velocity, found)


def charge(voltage: float, empty: float, full: float) -> float:
    """Return the charge from 0 to 1 of a battery's voltage [V], linear from empty to full [V].

    NaN stays NaN: what is not told must not be taken for a charge.
    """
    share = (voltage - empty) / (full - empty)
    return share if math.isnan(share) else min(1.0, max(0.0, share))


def failure(supervisor: int, power: int) -> str:
    """Return what the vehicle's supervisor and battery say is wrong; empty: nothing."""
    if supervisor & TUMBLED:
        return 'tumbled'
    if supervisor & LOCKED:
        return 'locked'
    return 'low power' if power >= LOW_POWER else ''


def yaw(orientation: Four) -> float:
    """Return the heading [rad] of an orientation (w, x, y, z)."""
    w, x, y, z = orientation
    return euler_from_quaternion(x, y, z, w)[2]


def set_rates(message: Any, rates: Three, throttle: float) -> None:
    """Write body rates (FLU) [rad/s] and a throttle from 0 to 1 into the Twist of cmd_vel_legacy.

    The server takes roll from linear.y, pitch from -linear.x and yaw from angular.z, in degrees;
    the firmware's pitch is about -y, and it takes the yaw rate with the other sign.
    """
    p, q, r = (math.degrees(rate) for rate in rates)
    message.linear.x, message.linear.y, message.angular.z = q, p, -r
    message.linear.z = max(LEAST_THRUST, min(MOST_THRUST, FULL_THRUST * throttle))


def set_full_state(message: Any, point: Any) -> None:
    """Write a point of a MultiDOFJointTrajectory into a FullState: world frame, body rates."""
    transform, velocity = point.transforms[0], point.velocities[0]
    at = message.pose.position
    at.x, at.y, at.z = (getattr(transform.translation, axis) for axis in 'xyz')
    message.pose.orientation = transform.rotation
    message.twist = velocity
    message.acc = point.accelerations[0].linear


def is_finite(point: Any) -> bool:
    """Say whether all that `set_full_state` takes from a point is finite."""
    transform, velocity = point.transforms[0], point.velocities[0]
    vectors = (
        transform.translation, velocity.linear, velocity.angular, point.accelerations[0].linear,
        transform.rotation,
    )  # fmt: skip
    numbers = [getattr(vector, axis) for vector in vectors for axis in 'xyz']
    return all(map(math.isfinite, (*numbers, transform.rotation.w)))
