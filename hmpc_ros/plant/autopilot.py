"""A small autopilot: rotor speeds from a thrust-and-body-rates command, as a vehicle makes them.

It knows the nominal vehicle only: a wrong mass or a weak battery shows as a thrust error.
"""

import math

import numpy as np

from hmpc_ros.plant.airframe import Airframe

# What the loop makes of the rates, where the motors allow it [rad/s]: roll, pitch, yaw. Yaw is
# slower since drag torques are weak, and a saturated yaw takes thrust from the height.
BANDWIDTH = (20.0, 20.0, 10.0)
DERIVATIVE_FILTER = 0.004  # s, of the measured angular acceleration
INTEGRAL_SHARE = 0.25  # of bandwidth times proportional gain


class Mixer:
    """Shares thrust and torques among the rotors; where they saturate, the least important yields.

    Roll and pitch torque come first, since they keep the vehicle upright, then yaw, then thrust.
    """

    def __init__(self, airframe: Airframe) -> None:
        """Prepare the matrices of a frame."""
        k = airframe.thrust_coefficient
        self._thrust_coefficient = k
        self._lowest = k * airframe.rotor_speed_min**2
        self._highest = k * airframe.rotor_speed_max**2
        self._tilt_share = airframe.allocation_inverse[:, 1:3]
        self._yaw_share = airframe.allocation_inverse[:, 3]

    def thrusts(self, thrust: float, torques: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return rotor thrusts (4,) [N], and whether anything had to yield.

        Args:
            thrust: of all rotors together [N].
            torques: (3,) about x, y, z [N m].
        """
        tilt = self._tilt_share @ torques[:2]
        yaw = self._yaw_share * torques[2]
        wanted = thrust / 4 + tilt + yaw
        if wanted.min() >= self._lowest and wanted.max() <= self._highest:
            return wanted, False
        room = self._highest - self._lowest
        spread = tilt.max() - tilt.min()
        if spread > room:
            tilt = tilt * (room / spread)
        # The largest part of the yaw torque with which no two rotors are further apart than `room`.
        apart = (tilt[:, None] - tilt[None, :]).ravel()
        grows = (yaw[:, None] - yaw[None, :]).ravel()
        growing = grows > 0
        if growing.any():
            part = ((room - apart[growing]) / grows[growing]).min()
            yaw = yaw * min(1.0, max(0.0, part))
        torque_part = tilt + yaw
        collective = min(
            max(thrust / 4, self._lowest - torque_part.min()), self._highest - torque_part.max()
        )
        # Rounding may leave a rotor a hair outside.
        return np.clip(collective + torque_part, self._lowest, self._highest), True

    def speeds(self, thrusts: np.ndarray) -> np.ndarray:
        """Return the rotor speeds (4,) [rad/s] of rotor thrusts (4,) [N]."""
        return np.sqrt(thrusts / self._thrust_coefficient)


class Autopilot:
    """Rate loop and mixer, called once per `step` seconds.

    With motors of time constant tau the loop ``w'_c = K (w_c - w) - D w'`` gives

        tau w'' + (1 + D) w' + K w = K w_c,

    so that ``K = tau p^2, D = 2 p tau - 1`` place both poles at the bandwidth p. Motors faster than
    1/p need less: K = p, and no derivative below 1/(2p), where it would only slow the loop. The
    integral acts on what this nominal response leaves: torques that the loop does not know.
    """

    def __init__(
        self, airframe: Airframe, step: float, bandwidth: tuple[float, float, float] = BANDWIDTH
    ) -> None:
        """Compute the gains for a vehicle; the step [s] is short against its motors' lag."""
        self.airframe = airframe
        self.mixer = Mixer(airframe)
        self._step = step
        tau, p = airframe.motor_time_constant, np.asarray(bandwidth, dtype=float)
        self._proportional = p * np.maximum(p * tau, 1.0)
        self._derivative = np.maximum(2 * p * tau - 1, 0.0)
        self._integral = INTEGRAL_SHARE * p * self._proportional
        self._motor_part = 1 - math.exp(-step / tau)
        self._filter_part = 1 - math.exp(-step / DERIVATIVE_FILTER)
        self._inertia = np.array(airframe.inertia)
        self.reset(np.zeros(3))

    def reset(self, rates: np.ndarray) -> None:
        """Begin at body rates (3,) [rad/s] that do not change."""
        self._last_rates = np.array(rates, dtype=float)
        self._acceleration = np.zeros(3)
        self._nominal_rates = self._last_rates.copy()
        self._nominal_acceleration = np.zeros(3)
        self._unknown = np.zeros(3)  # rad/s^2, what the integral has found

    def rotor_speeds(self, u: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the rotor speeds (4,) [rad/s] to command for the next step.

        Args:
            u: thrust over nominal mass [m/s^2], body rates [rad/s] (4,).
            rates: measured body rates (3,) [rad/s].
        """
        measured = (rates - self._last_rates) / self._step
        self._last_rates = rates.copy()
        self._acceleration += self._filter_part * (measured - self._acceleration)
        gain, damping = self._proportional, self._derivative
        wanted = gain * (u[1:] - rates) - damping * self._acceleration + self._unknown
        thrusts, saturated = self.mixer.thrusts(
            self.airframe.mass * max(0.0, float(u[0])), self._inertia * wanted
        )
        if saturated:
            # No response to compare with: begin anew from what is.
            self._nominal_rates = rates.copy()
            self._nominal_acceleration = self._acceleration.copy()
        else:
            self._unknown += self._step * self._integral * (self._nominal_rates - rates)
            nominal = gain * (u[1:] - self._nominal_rates) - damping * self._nominal_acceleration
            self._nominal_acceleration += self._motor_part * (nominal - self._nominal_acceleration)
            self._nominal_rates += self._step * self._nominal_acceleration
        return self.mixer.speeds(thrusts)
