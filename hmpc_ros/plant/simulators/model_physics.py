"""Our own physics, compiled: rigid body, lagging rotors, drag that is linear in the airspeed."""

from typing import Any

import casadi as ca
import numpy as np

from hmpc_ros.plant.airframe import Airframe
from hmpc_ros.plant.quadcopter import _BufferedFunction
from hmpc_ros.plant.rigid_body import GRAVITY, NX, QUATERNION, RATES, VELOCITY


class ModelPhysics:
    """The controller's kind of vehicle with its rotors and inertia."""

    def __init__(self, airframe: Airframe, drag: tuple[float, float, float], step: float) -> None:
        """Compile one step [s] of a vehicle: its true constants, its true drag [1/s]."""
        s, command = ca.SX.sym('s', NX + 4), ca.SX.sym('command', 4)
        wind, scale = ca.SX.sym('wind', 3), ca.SX.sym('scale')
        rate = _derivative(airframe, drag)
        middle = s + step / 2 * rate(s, command, wind, scale)
        after = s + step * rate(middle, command, wind, scale)
        after[QUATERNION] /= ca.norm_2(after[QUATERNION])
        self._advance = _BufferedFunction(
            ca.Function('advance', [s, command, wind, scale], [after])
        )
        self._state = np.zeros(NX + 4)

    def reset(self, x0: np.ndarray, rotor_speed: float) -> None:
        """Begin at a state (13,), all rotors at one speed [rad/s]."""
        self._state = np.concatenate([x0, np.full(4, rotor_speed)])

    def state(self) -> np.ndarray:
        """Return the state (13,), a new array."""
        return self._state[:NX].copy()

    def advance(self, rotor_speeds: np.ndarray, wind: np.ndarray, thrust_scale: float) -> None:
        """Go one step on under commanded rotor speeds (4,) [rad/s] and wind (3,) [m/s]."""
        self._state = self._advance(self._state, rotor_speeds, wind, (thrust_scale,))[0].ravel()


def _derivative(airframe: Airframe, drag: tuple[float, float, float]) -> Any:
    s, command = ca.SX.sym('s', NX + 4), ca.SX.sym('command', 4)
    wind, scale = ca.SX.sym('wind', 3), ca.SX.sym('scale')
    v, rates, speeds = s[VELOCITY], s[RATES], s[NX:]
    w, x, y, z = ca.vertsplit(s[QUATERNION])
    turn = ca.vertcat(
        ca.horzcat(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        ca.horzcat(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        ca.horzcat(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    wrench = ca.DM(airframe.allocation) @ (scale * airframe.thrust_coefficient * speeds**2)
    airspeed = turn.T @ (v - wind)
    force = ca.vertcat(0, 0, wrench[0] / airframe.mass) - ca.DM(drag) * airspeed
    inertia = ca.DM(airframe.inertia)
    return ca.Function(
        'derivative',
        [s, command, wind, scale],
        [
            ca.vertcat(
                v,
                turn @ force - ca.vertcat(0, 0, GRAVITY),
                -ca.dot(s[7:10], rates) / 2,
                (w * rates + ca.cross(s[7:10], rates)) / 2,
                (wrench[1:] - ca.cross(rates, inertia * rates)) / inertia,
                (command - speeds) / airframe.motor_time_constant,
            )
        ],
    )
