"""What every simulator of a thrust-and-rates vehicle offers, and what its physics must."""

from typing import Protocol

import numpy as np

from hmpc_ros.plant.airframe import Airframe
from hmpc_ros.plant.presets import CommandLimits, NominalModel


class Simulator(Protocol):
    """A vehicle under its autopilot; states (13,) and commands (4,) as in `plant.rigid_body`.

    Attributes:
        time_step: control period [s].
        flight: number of the flight, which selects its random numbers.
        parameters: the nominal vehicle.
        limits: what may be commanded.
        model: what a controller assumes.
    """

    time_step: float
    flight: int
    parameters: Airframe
    limits: CommandLimits
    model: NominalModel

    def reset(self, x0: np.ndarray, flight: int | None = None) -> None:
        """Begin a flight at a state, motors at hover speed; the next flight if None."""

    def measure(self) -> np.ndarray:
        """Return the state (13,) as sensors give it: the same however often asked in a step."""

    def truth(self) -> np.ndarray:
        """Return the state (13,) as it is."""

    def step(self, u: np.ndarray) -> None:
        """Fly one control period under a command (4,): thrust acceleration, body rates."""


class Physics(Protocol):
    """A body with rotors, advanced in equal small steps."""

    def reset(self, x0: np.ndarray, rotor_speed: float) -> None:
        """Begin at a state (13,), all rotors at one speed [rad/s]."""

    def state(self) -> np.ndarray:
        """Return the state (13,), a new array."""

    def advance(self, rotor_speeds: np.ndarray, wind: np.ndarray, thrust_scale: float) -> None:
        """Go one step on.

        Args:
            rotor_speeds: commanded (4,) [rad/s], held over the step.
            wind: (3,) [m/s] in the world frame, held over the step.
            thrust_scale: thrust and drag torque of a rotor over what they would be; a weak
                battery's are below 1.
        """
