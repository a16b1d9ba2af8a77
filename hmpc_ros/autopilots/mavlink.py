"""MAVLink, as much as taking over from PX4 or ArduPilot needs, through pymavlink.

pymavlink is an optional dependency and imported when a link is opened.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any

from hmpc_ros.autopilots import frames
from hmpc_ros.autopilots.state import BadEstimateError, VehicleState, from_ned
from hmpc_ros.autopilots.takeover import Request
from hmpc_ros.plant.odometry import Three

ARDUPILOT, PX4 = 3, 12  # MAV_AUTOPILOT
AUTOPILOT_NAMES = {ARDUPILOT: 'ArduPilot', PX4: 'PX4'}
_ARMED = 128  # MAV_MODE_FLAG
_CRITICAL = (5, 6)  # MAV_STATE: critical, emergency
_LOCAL_NED, _LOCAL_FRD = 1, 20  # MAV_FRAME of poses
_BODY_FRAMES = (8, 12)  # MAV_FRAME_BODY_NED (what it was once), MAV_FRAME_BODY_FRD
_SET_MODE, _SET_INTERVAL, _ARM, _TAKE_OFF = 176, 511, 400, 22  # MAV_CMD
PX4_TAKE_OFF, COPTER_BRAKE = (1.0, 4.0, 2.0), (1.0, 17.0, 0.0)  # of _SET_MODE
_RATES_AND_THRUST = 128  # type mask: ignore the attitude
_LEVEL = (1.0, 0.0, 0.0, 0.0)
ODOMETRY, ATTITUDE_TARGET, SYS_STATUS = 331, 83, 1  # message ids
# Bit of ArduPilot's GUID_OPTIONS with which a thrust is a thrust; without it, a climb rate.
THRUST_AS_THRUST = 1 << 3

# PX4's custom mode: main mode in the third byte, mode of 'auto' in the fourth.
_PX4_MODES = {
    1: 'manual', 2: 'altitude', 3: 'position', 4: 'auto', 5: 'acro', 6: 'offboard',
    7: 'stabilized',
}  # fmt: skip
_PX4_AUTO = {2: 'takeoff', 3: 'hold', 4: 'mission', 5: 'return', 6: 'land', 8: 'follow'}
_COPTER_MODES = {
    0: 'stabilize', 1: 'acro', 2: 'altitude hold', 3: 'auto', 4: 'guided', 5: 'loiter',
    6: 'return', 9: 'land', 16: 'position hold', 17: 'brake', 20: 'guided without GPS',
}  # fmt: skip
_GUIDED, _LOITER = 4, 5
_RESULTS = {
    1: 'temporarily refused', 2: 'denied', 3: 'not supported', 4: 'failed', 5: 'in progress',
    6: 'cancelled',
}  # fmt: skip


def mode(autopilot: int, custom_mode: int) -> tuple[str, bool]:
    """Return a mode in words, and whether the autopilot obeys set-points from outside in it."""
    if autopilot == PX4:
        main, auto = custom_mode >> 16 & 0xFF, custom_mode >> 24 & 0xFF
        name = _PX4_AUTO.get(auto, f'auto {auto}') if main == 4 else _PX4_MODES.get(main, str(main))
        return name, main == 6
    if autopilot == ARDUPILOT:
        return _COPTER_MODES.get(custom_mode, f'mode {custom_mode}'), custom_mode == _GUIDED
    return f'mode {custom_mode}', False


def mode_parameters(autopilot: int, request: Request) -> tuple[float, float, float]:
    """Return the first three parameters of MAV_CMD_DO_SET_MODE; the first: it is a custom mode."""
    if autopilot == PX4:
        return (1.0, 6.0, 0.0) if request is Request.TAKE else (1.0, 4.0, 3.0)
    return 1.0, float(_GUIDED if request is Request.TAKE else _LOITER), 0.0


def result_text(result: int) -> str:
    """Return what an autopilot answered to a command; empty: it accepted it."""
    return '' if result == 0 else _RESULTS.get(result, f'result {result}')


def state_from_odometry(message: Any) -> VehicleState:
    """Return the state of an ODOMETRY message.

    Raises:
        BadEstimateError: it is not a state to fly on.
    """
    if message.frame_id not in (_LOCAL_NED, _LOCAL_FRD):
        raise BadEstimateError(
            f"the autopilot's ODOMETRY is in MAV_FRAME {message.frame_id}, which is neither local "
            'NED (1) nor local FRD (20)'
        )
    in_body = message.child_frame_id in _BODY_FRAMES
    if not in_body and message.child_frame_id != message.frame_id:
        raise BadEstimateError(
            f"the velocity of the autopilot's ODOMETRY is in MAV_FRAME {message.child_frame_id}, "
            f"which is neither the body's (12) nor the position's ({message.frame_id})"
        )
    return from_ned(
        1e-6 * message.time_usec,
        (message.x, message.y, message.z),
        message.q,
        (message.vx, message.vy, message.vz),
        (message.rollspeed, message.pitchspeed, message.yawspeed),
        velocity_in_body=in_body,
        resets=message.reset_counter,
        quality=message.quality,
    )


def is_armed(heartbeat: Any) -> bool:
    """Say whether a HEARTBEAT tells armed motors."""
    return bool(heartbeat.base_mode & _ARMED)


def in_failsafe(heartbeat: Any) -> bool:
    """Say whether a HEARTBEAT tells a state that is critical or an emergency."""
    return heartbeat.system_status in _CRITICAL


def battery(status: Any) -> tuple[float, float]:
    """Return charge (0 to 1) and voltage [V] of a SYS_STATUS; NaN for what it does not tell."""
    left, millivolts = status.battery_remaining, status.voltage_battery
    return (
        0.01 * left if left >= 0 else math.nan,
        1e-3 * millivolts if 0 < millivolts < 65535 else math.nan,
    )


class MavlinkLink:
    """A connection to one autopilot. One thread may use it, beside `wait`.

    Args:
        url: as pymavlink has it: ``udp:HOST:PORT`` listens, ``udpout:HOST:PORT`` sends first,
            ``tcp:HOST:PORT``, or a serial device.
        baud: of a serial device.
        system: the autopilot's system id.

    Raises:
        ValueError: pymavlink is not installed, or the url cannot be opened; a sentence.
    """

    def __init__(self, url: str, baud: int = 115200, system: int = 1) -> None:
        os.environ['MAVLINK20'] = '1'  # ODOMETRY has no place in the first version
        try:
            from pymavlink import mavutil
        except ImportError as error:
            raise ValueError(
                'MAVLink needs pymavlink, which is not installed: pip install pymavlink'
            ) from error
        self._system = system
        try:
            self._connection = mavutil.mavlink_connection(
                url, baud=baud, source_system=system, source_component=191, dialect='common'
            )  # 191: MAV_COMP_ID_ONBOARD_COMPUTER
        except ImportError as error:
            raise ValueError(
                f"url: '{url}' cannot be opened: {error}; a serial device needs pyserial: "
                'pip install pyserial'
            ) from error
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(
                f"url: '{url}' cannot be opened: {error}; it is for example udp:127.0.0.1:14540, "
                'tcp:127.0.0.1:5760 or /dev/ttyACM0'
            ) from error
        self._mav = self._connection.mav
        self._began = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait for data; from any thread. Returns whether there are some."""
        return bool(self._connection.select(seconds))

    def messages(self) -> Iterator[Any]:
        """Take what has come from the autopilot; other systems and other components are left."""
        while (message := self._connection.recv_msg()) is not None:
            if message.get_type() == 'BAD_DATA':
                continue
            if (message.get_srcSystem(), message.get_srcComponent()) == (self._system, 1):
                yield message

    def send_rates(self, rates: Three, throttle: float) -> None:
        """Command body rates (FLU) [rad/s] and a throttle from 0 to 1."""
        milliseconds = int(1e3 * (time.monotonic() - self._began)) % 2**32
        self._mav.set_attitude_target_send(
            milliseconds, self._system, 1, _RATES_AND_THRUST, _LEVEL, *frames.body(*rates), throttle
        )

    def send_heartbeat(self) -> None:
        """Say that we are here: an onboard computer, no ground station."""
        self._mav.heartbeat_send(18, 8, 0, 0, 4)  # onboard controller, no autopilot, active

    def ask_time(self, nanoseconds: int) -> None:
        """Ask for the autopilot's time; TIMESYNC comes back with ours [ns]."""
        self._mav.timesync_send(0, nanoseconds)

    def request_arming(self) -> None:
        """Ask it to arm."""
        self._command(_ARM, 1.0)

    def request_take_off(self, height: float) -> None:
        """Ask ArduPilot in guided mode to climb to a height above its home [m]."""
        self._command(_TAKE_OFF, 0.0, 0.0, 0.0, math.nan, 0.0, 0.0, height)

    def request_named_mode(self, custom: tuple[float, float, float]) -> None:
        """Ask for a mode by the parameters of MAV_CMD_DO_SET_MODE."""
        self._command(_SET_MODE, *custom)

    def request_mode(self, autopilot: int, request: Request) -> None:
        """Ask for a mode."""
        self._command(_SET_MODE, *mode_parameters(autopilot, request))

    def request_messages(self, message_id: int, rate: float) -> None:
        """Ask for a message at a rate [Hz]."""
        self._command(_SET_INTERVAL, float(message_id), 1e6 / rate)

    def request_parameter(self, name: str) -> None:
        """Ask for the value of one of the autopilot's parameters; it comes as PARAM_VALUE."""
        self._mav.param_request_read_send(self._system, 1, name.encode(), -1)

    def _command(self, command: int, *parameters: float) -> None:
        seven = [*parameters, *[0.0] * (7 - len(parameters))]
        self._mav.command_long_send(self._system, 1, command, 0, *seven)

    def close(self) -> None:
        """Close it."""
        self._connection.close()
