"""How states and commands of a kind of vehicle travel: the only place where the kinds differ.

Nodes and recorders work with an interface and do not ask what they fly. Both state and command are
plain arrays; `ROTORS` is the vehicle of the linear MPC, `RATES` that of the tracking MPC.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from hmpc_ros.plant import kinds
from hmpc_ros.plant.kinds import VehicleKind
from hmpc_ros.ros import conversions


@dataclass(frozen=True, eq=False)
class CommandInterface:
    """Topic, messages and arrays of a kind of vehicle."""

    topic: str  #: of the commands
    message: type  #: their type; every one has a header
    kind: VehicleKind  #: how states and commands are to be read
    #: writes what an odometry message describes into an array (nx,); raises NotARotationError and
    #: leaves the array
    read_state: Callable[[Odometry, np.ndarray], None]
    #: writes an array (nx,) at a time [ns] into an odometry message
    write_state: Callable[[np.ndarray, int, Odometry], None]
    #: returns a message for ``write_command`` to fill again and again
    new_command: Callable[[], Any]
    #: writes a command (nu,) that answers the odometry of a time [ns]
    write_command: Callable[[np.ndarray, int, Any], None]
    #: writes a message's command into an array (nu,); raises ValueError and leaves the array
    read_command: Callable[[Any, np.ndarray], None]

    @property
    def states(self) -> int:
        """Length of a state."""
        return self.kind.nx

    @property
    def inputs(self) -> int:
        """Length of a command."""
        return self.kind.nu


#: Rotor speeds [rad/s] by name; states as in `hmpc_ros.plant.quadcopter`.
ROTORS = CommandInterface(
    'rotor_command',
    JointState,
    kinds.ROTORS,
    conversions.state_from_odometry,
    conversions.odometry_from_state,
    conversions.new_rotor_command,
    conversions.set_rotor_speeds,
    conversions.rotor_speeds_from_joint_state,
)

#: Thrust over mass [m/s^2] and body rates [rad/s]; states as in `hmpc_ros.plant.rigid_body`.
RATES = CommandInterface(
    'rates_command',
    TwistStamped,
    kinds.RATES,
    conversions.rigid_body_from_odometry,
    conversions.odometry_from_rigid_body,
    TwistStamped,
    conversions.set_rates_command,
    conversions.rates_from_command,
)
