"""The parameters of the nodes that connect the controller to autopilots.

Gates of the take-over are fields of their dataclass; what is written out says how to reach an
autopilot, and what its throttle is worth.
"""

from hmpc_ros.autopilots.takeover import Gates
from hmpc_ros.configuration.schema import declared, fixed

# fmt: off
ADAPTER = (
    fixed('frame_id', 'map', "frame of the odometry; its origin is the autopilot's"),
    fixed('child_frame_id', 'base_link', 'body frame of the odometry'),
    fixed(
        'hover_throttle', 0.0,
        'throttle of a hover; 0: measured while the autopilot holds the vehicle in the air',
        lower=0.0, upper=0.95,
    ),
    fixed(
        'hover_voltage', 0.0, 'battery voltage at which hover_throttle was found; 0: unknown',
        'V', lower=0.0,
    ),
    fixed(
        'voltage_exponent', 0.0,
        'power of the voltage that thrust goes with; 0: the autopilot compensates it, 2: motors',
        lower=0.0, upper=4.0,
    ),
    fixed(
        'max_latency', 0.1, 'time that the controller may take for an answer to be good',
        's', lower=1e-3,
    ),
    fixed(
        'allow_arming', False,
        "whether the service ~/take_off arms the vehicle and takes off; else that is the pilot's",
    ),
    fixed(
        'take_off_height', 2.0,
        'height to take off to, above home; PX4 goes by its own MIS_TAKEOFF_ALT',
        'm', lower=0.2,
    ),
    *declared(Gates, ''),
)
_SYSTEM = fixed('system', 1, "the autopilot's MAVLink system id", lower=1, upper=255)
MAVLINK_ADAPTER = (
    fixed(
        'url', 'udp:127.0.0.1:14540',
        'where the autopilot is: udp:HOST:PORT listens, udpout:HOST:PORT sends first, '
        'tcp:HOST:PORT, or a serial device',
    ),
    fixed('baud', 115200, 'of a serial device', lower=1200),
    _SYSTEM,
    fixed('rate', 100.0, 'rate of states to ask for', 'Hz', lower=1.0, upper=1000.0),
    *ADAPTER,
)
PX4_ADAPTER = (
    fixed('fmu', 'fmu', "beginning of the names of PX4's topics, before /in and /out"),
    _SYSTEM,
    *ADAPTER,
)
MAVROS_ADAPTER = (
    fixed('mavros', 'mavros', "beginning of the names of MAVROS' topics"),
    fixed(
        'autopilot', 'px4', 'behind MAVROS: px4 (offboard, hold) or ardupilot (guided, loiter)',
        choices=('px4', 'ardupilot'),
    ),
    *ADAPTER,
)
CRAZYFLIE_ADAPTER = (
    fixed('vehicle', 'cf231', "the vehicle's name, which its topics begin with"),
    fixed(
        'command', 'full_state',
        "what is commanded: full_state (the plan's next state; the firmware's controller flies "
        'there) or rates (thrust and body rates)',
        choices=('full_state', 'rates'),
    ),
    fixed('battery_empty', 3.0, 'voltage of an empty battery', 'V', lower=0.0),
    fixed('battery_full', 4.2, 'voltage of a full battery', 'V', lower=0.0),
    *ADAPTER,
)
