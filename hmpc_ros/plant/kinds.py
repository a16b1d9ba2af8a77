"""What flies, to those who need not know how its numbers lie: two kinds of vehicle.

`ROTORS` is the quadcopter of the linear MPC, with 12 Euler states and rotor speeds (`quadcopter`);
`RATES` the rigid body of the tracking MPC, with a quaternion, thrust and body rates (`rigid_body`).
States are (..., nx), their errors (..., nd): position, velocity, attitude, body rates, three each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.plant import quadcopter, rigid_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Of errors, and of states wherever these are alike.
POSITION, VELOCITY, ATTITUDE, RATES_OF_TURN = (slice(i, i + 3) for i in (0, 3, 6, 9))
#: Errors that soft bounds apply to: velocity, attitude, rates. Bounds on inputs are hard.
SOFT = slice(3, 12)
_UNITS = ('m',) * 3 + ('m/s',) * 3


@dataclass(frozen=True, eq=False)
class VehicleKind:
    """How the states and inputs of a kind of vehicle are to be read.

    Attributes:
        state_names, state_units: in the order of states (nx,).
        input_names, input_units: in the order of inputs (nu,).
    """

    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    input_names: tuple[str, ...]
    input_units: tuple[str, ...]
    nd: int  #: length of an error; less than nx where states have a quaternion
    #: errors (..., nd) of states to others, both (..., nx)
    difference: Callable[[Array, Array], Array]
    #: states (..., nx) whose difference to states is an error (..., nd)
    retract: Callable[[Array, Array], Array]
    quaternion: Callable[[Array], Array]  #: attitudes (..., 4), w first, body to world, of states
    #: says why a linear model is not to be trusted at a state (nx,) within a largest tilt [rad];
    #: empty where it is
    trusted: Callable[[Array, float], str]

    @property
    def nx(self) -> int:
        """Length of a state."""
        return len(self.state_names)

    @property
    def nu(self) -> int:
        """Length of an input."""
        return len(self.input_names)

    def tilt(self, states: Array) -> Array:
        """Return the angle (...) [rad] between thrust axis and vertical of states."""
        q = self.quaternion(states)
        return np.arccos(np.clip(1 - 2 * (q[..., 1] ** 2 + q[..., 2] ** 2), -1.0, 1.0))


def _within_tilt(x: Array, largest: float) -> str:
    """Say by how much an Euler state is tilted, where that is too much: at pi/2 the angles end."""
    roll, pitch = x.item(6), x.item(7)
    # What is not a number is not within either.
    if -largest <= roll <= largest and -largest <= pitch <= largest:
        return ''
    return f'{max(abs(roll), abs(pitch)):.2f} rad'


def _always(_x: Array, _largest: float) -> str:
    """Trust it: a quaternion has no end."""
    return ''


ROTORS = VehicleKind(
    quadcopter.STATE_NAMES,
    (*_UNITS, *('rad',) * 3, *('rad/s',) * 3),
    quadcopter.INPUT_NAMES,
    ('rad/s',) * 4,
    quadcopter.NX,
    quadcopter.difference,
    quadcopter.retract,
    quadcopter.quaternion,
    _within_tilt,
)
RATES = VehicleKind(
    rigid_body.STATE_NAMES,
    (*_UNITS, *('1',) * 4, *('rad/s',) * 3),
    rigid_body.INPUT_NAMES,
    ('m/s^2', *('rad/s',) * 3),
    rigid_body.ND,
    rigid_body.difference,
    rigid_body.retract,
    lambda x: np.asarray(x)[..., rigid_body.QUATERNION],
    _always,
)
