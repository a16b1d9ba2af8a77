"""PX4's simulated quadcopter (SIH) as a process, and its pilot: a ground station over MAVLink.

The pilot arms, takes off, chooses modes and lands; flies PX4's own position controller along a
reference, for comparison; and records PX4's estimate and the simulator's truth. It has a link of
its own, and nothing to do with the adapter's.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ['MAVLINK20'] = '1'

from pymavlink import mavutil

from hmpc_ros.autopilots import frames, mavlink
from hmpc_ros.autopilots.clock import AutopilotClock
from hmpc_ros.autopilots.state import BadEstimateError
from hmpc_ros.plant.reference.protocol import Reference

AIRFRAME = 'etc/init.d-posix/airframes/10040_sihsim_quadx'
GROUND_STATION, OFFBOARD_LINK, AGENT = 18570, 14540, 8888  # ports of PX4's first instance
TAKEOFF, LAND, HOLD, OFFBOARD = (4.0, 2.0), (4.0, 6.0), (4.0, 3.0), (6.0, 0.0)
_ARM, _SET_MODE, _SET_INTERVAL, _REQUEST = 400, 176, 511, 512  # MAV_CMD
_TRUTH, _ORIGIN, _VERSION = 115, 49, 148  # message ids
_POSITION_TO_YAW = 1 << 11  # type mask: all but the yaw rate
_EARTH = 6371000.0  # m, as PX4 projects
PARAMETERS = {
    'MIS_TAKEOFF_ALT': '3',
    'COM_OBL_RC_ACT': '5',  # set-points lost: hold
    'COM_DISARM_PRFLT': '60',
}


class Px4Error(RuntimeError):
    """PX4 does not do what it should; the message is a sentence."""


def missing(binary: str) -> str:
    """Say what keeps a PX4 from being flown, a sentence; empty: nothing."""
    if not binary:
        return (
            'PX4_BINARY is not given: it is the bin/px4 of a build folder of PX4 for simulation '
            '(px4_sitl_default; v1.17 was flown): make px4-sitl PX4_BINARY=.../bin/px4'
        )
    path = Path(binary)
    if not (path.is_file() and os.access(path, os.X_OK)):
        return f'PX4_BINARY: there is no program {binary}'
    if not (path.parents[1] / AIRFRAME).is_file():
        return (
            f'PX4_BINARY: beside {binary} there is no {AIRFRAME}: it has to be the bin/px4 of a '
            'build folder of px4_sitl_default with the SIH quadcopter (PX4 1.14 or later)'
        )
    return ''


def free_instance() -> int:
    """Return the number of a PX4 whose ports nobody has.

    Raises:
        Px4Error: there is none.
    """
    for number in range(9):
        with contextlib.ExitStack() as stack:
            try:
                for port in (GROUND_STATION, OFFBOARD_LINK, OFFBOARD_LINK + 40):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    probe.bind(('127.0.0.1', port + number))
            except OSError:
                continue
            return number
    raise Px4Error('nine PX4 run on this machine already: end one of them')


@contextlib.contextmanager
def px4(
    binary: Path, number: int, folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen]:
    """Run PX4 with its simulated quadcopter; ends with the context, and with this process.

    Args:
        binary: ``bin/px4`` of its build folder.
        number: of the instance, from which its ports follow.
        folder: where it writes parameters, log and what it says (``px4.log``).
        environment: variables to add.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        **os.environ,
        'PX4_SIM_MODEL': 'sihsim_quadx',
        **{f'PX4_PARAM_{name}': value for name, value in PARAMETERS.items()},
        **environment,
    }
    variables.pop('PX4_SIM_SPEED_FACTOR', None)
    with (folder / 'px4.log').open('wb') as log:
        process = subprocess.Popen(
            [
                sys.executable, '-m', 'hmpc_ros.ros.tether', '--program', str(binary), '-d',
                '-i', str(number), '-w', str(folder), str(binary.parents[1] / 'etc'),
            ],
            stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=variables,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            for word, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, word)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            if process.stdin is not None:
                process.stdin.close()


@dataclass(frozen=True)
class Errors:
    """Of a position along a reference, over the counted part of it."""

    rmse: float  # m
    largest: float  # m
    axes: tuple[float, float, float]  # m, RMSE along world x, y, z
    offset: tuple[float, float, float]  # m, the mean


def errors(
    track: np.ndarray, reference: Reference, zero: float, begin: float, end: float
) -> Errors:
    """Compare a track (n, 4) of times [s] and positions [m] with a reference whose 0 is ``zero``.

    Raises:
        Px4Error: nothing of it was recorded.
    """
    times = track[:, 0] - zero
    counted = (times >= begin) & (times <= end)
    if np.count_nonzero(counted) < 10:
        raise Px4Error('nothing was recorded of the flight: does PX4 tell its state?')
    return errors_of(track[counted, 1:] - reference.sample(times[counted]).position)


def errors_of(wrong: np.ndarray) -> Errors:
    """Put differences of places (n, 3) [m] into numbers."""
    square = np.mean(wrong**2, axis=0)
    x, y, z = np.sqrt(square).tolist()
    mean = wrong.mean(axis=0).tolist()
    return Errors(
        float(np.sqrt(square.sum())),
        float(np.linalg.norm(wrong, axis=1).max()),
        (x, y, z),
        (mean[0], mean[1], mean[2]),
    )


class Pilot:
    """A ground station; a thread listens, and says that it is here.

    Attributes:
        mode, armed: of the vehicle.
        modes: every mode that came, with its time.
        estimate, truth: tracks of times [s] by this computer's clock and positions, ENU [m].
        texts: what PX4 says.
    """

    def __init__(self, number: int) -> None:
        self.mode, self.armed = 'unknown', False
        self.modes: list[tuple[float, str]] = []
        self.estimate: list[tuple[float, float, float, float]] = []
        self.truth: list[tuple[float, float, float, float]] = []
        self.speed = math.inf
        self.texts: list[str] = []
        self.acknowledged: dict[int, int] = {}
        self.version = ''
        self.landed = False
        self._origin: tuple[float, float, float] | None = None
        self._clock = AutopilotClock()
        self._system = number + 1
        self._link = mavutil.mavlink_connection(
            f'udpout:127.0.0.1:{GROUND_STATION + number}', source_system=255,
            source_component=190, dialect='common',
        )  # fmt: skip
        self._sending = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._listen, name='pilot', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Fall silent."""
        self._end.set()
        self._thread.join()
        self._link.close()

    # -- from PX4 ------------------------------------------------------------------------------

    def _listen(self) -> None:
        beat = -math.inf
        while not self._end.is_set():
            if time.monotonic() - beat > 0.5:
                beat = time.monotonic()
                with self._sending:
                    self._link.mav.heartbeat_send(6, 8, 0, 0, 4)  # a ground station
            message = self._link.recv_match(blocking=True, timeout=0.05)
            if message is not None and message.get_srcSystem() == self._system:
                handler = getattr(self, f'_on_{message.get_type().lower()}', None)
                if handler is not None and message.get_srcComponent() == 1:
                    handler(message)

    def _on_heartbeat(self, message: Any) -> None:
        mode, _ = mavlink.mode(mavlink.PX4, message.custom_mode)
        if mode != self.mode:
            self.modes.append((time.monotonic(), mode))
        self.mode, self.armed = mode, mavlink.is_armed(message)

    def _on_odometry(self, message: Any) -> None:
        with contextlib.suppress(BadEstimateError):
            state = mavlink.state_from_odometry(message)
            when = self._clock.time(state.stamp, time.time())
            self.speed = math.hypot(*state.world_velocity)
            self.estimate.append((when, *state.position))

    def _on_hil_state_quaternion(self, message: Any) -> None:
        if self._origin is not None:
            when = self._clock.time(1e-6 * message.time_usec, time.time())
            lat, lon, height = self._origin
            north = math.radians(1e-7 * message.lat - lat) * _EARTH
            east = math.radians(1e-7 * message.lon - lon) * _EARTH * math.cos(math.radians(lat))
            self.truth.append((when, east, north, 1e-3 * message.alt - height))

    def _on_gps_global_origin(self, message: Any) -> None:
        place = 1e-7 * message.latitude, 1e-7 * message.longitude
        self._origin = *place, 1e-3 * message.altitude

    def _on_autopilot_version(self, message: Any) -> None:
        v = message.flight_sw_version
        commit = bytes(reversed(message.flight_custom_version)).hex()
        self.version = f'{v >> 24}.{v >> 16 & 255}.{v >> 8 & 255} ({commit})'

    def _on_extended_sys_state(self, message: Any) -> None:
        self.landed = message.landed_state == 1

    def _on_command_ack(self, message: Any) -> None:
        self.acknowledged[message.command] = message.result

    def _on_statustext(self, message: Any) -> None:
        self.texts.append(message.text)

    # -- to PX4 --------------------------------------------------------------------------------

    def command(self, number: int, *parameters: float) -> None:
        """Send MAV_CMD ``number``."""
        seven = [*parameters, *[0.0] * (7 - len(parameters))]
        self.acknowledged.pop(number, None)
        with self._sending:
            self._link.mav.command_long_send(self._system, 1, number, 0, *seven)

    def ask(self, number: int, parameters: tuple[float, ...], done: Callable[[], bool],
            seconds: float, what: str) -> None:  # fmt: skip
        """Send a command once a second until its effect is there.

        Raises:
            Px4Error: it did not come.
        """
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                result = mavlink.result_text(self.acknowledged.get(number, 0))
                said = '; '.join(self.texts[-5:])
                raise Px4Error(f'PX4 did not {what} in {seconds:g} s ({result}); it said: {said}')
            self.command(number, *parameters)
            wait(done, 1.0)

    def listen_to_all(self) -> None:
        """Ask for state, truth, origin and version; raises Px4Error when they do not come."""
        for message, rate in ((mavlink.ODOMETRY, 100.0), (_TRUTH, 50.0), (245, 2.0)):
            self.command(_SET_INTERVAL, float(message), 1e6 / rate)
            time.sleep(0.1)  # PX4 takes them one by one
        self.ask(_REQUEST, (_VERSION,), lambda: bool(self.version), 30.0, 'tell its version')
        self.ask(_REQUEST, (_ORIGIN,), lambda: self._origin is not None, 60.0, 'find an origin')
        for message, rate in ((mavlink.ODOMETRY, 100.0), (_TRUTH, 50.0), (245, 2.0)):
            self.command(_SET_INTERVAL, float(message), 1e6 / rate)
            time.sleep(0.1)
        if not wait(lambda: len(self.estimate) > 100 and len(self.truth) > 50, 20.0):
            raise Px4Error('PX4 tells no ODOMETRY or no HIL_STATE_QUATERNION, although asked to')

    def choose(self, mode: tuple[float, float], name: str) -> None:
        """Choose a mode, also that of a failsafe, which ends so.

        Raises:
            Px4Error: PX4 does not go there.
        """
        self.command(_SET_MODE, 1.0, *mode)
        wait(lambda: _SET_MODE in self.acknowledged, 1.0)
        self.ask(_SET_MODE, (1.0, *mode), lambda: self.mode == name, 10.0, f'go to {name}')

    def take_off(self) -> None:
        """Arm, climb to MIS_TAKEOFF_ALT, and hold there still."""
        self.ask(_ARM, (1.0,), lambda: self.armed, 60.0, 'arm')
        self.ask(
            _SET_MODE, (1.0, *TAKEOFF),
            lambda: self.mode == 'takeoff' or self.estimate[-1][3] > 1.0, 10.0, 'take off',
        )  # fmt: skip
        height = 0.8 * float(PARAMETERS['MIS_TAKEOFF_ALT'])
        if not wait(lambda: self.estimate[-1][3] > height and self.speed < 0.3, 30.0):
            raise Px4Error(f'PX4 did not reach its take-off height; it said: {self.texts[-5:]}')
        self.choose(HOLD, 'hold')

    def land(self) -> None:
        """Land, and wait until PX4 disarms by itself."""
        self.choose(LAND, 'land')
        if not wait(lambda: self.landed and not self.armed, 60.0):
            raise Px4Error(f'PX4 did not land and disarm; it said: {self.texts[-5:]}')

    def fly(self, reference: Reference, seconds: float, period: float = 0.02) -> float:
        """Fly PX4's own position controller along a reference, with feed-forward; hold at the end.

        Args:
            reference: ENU.
            seconds: how long, from its time 0 on; a second before that it waits there.
            period: between two set-points [s].

        Returns:
            When its time 0 was, by this computer's clock [s].
        """
        zero = time.time() + 2.5
        asked = -math.inf
        while (now := time.time() - zero) < seconds:
            self._send_target(reference, now)
            if now > -1.5 and self.mode != 'offboard':
                if now > 0.0:
                    raise Px4Error(f'PX4 is in {self.mode}; it said: {self.texts[-5:]}')
                if now - asked > 0.5:
                    asked = now
                    self.command(_SET_MODE, 1.0, *OFFBOARD)
            time.sleep(period)
        self.choose(HOLD, 'hold')
        return zero

    def _send_target(self, reference: Reference, now: float) -> None:
        s = reference.sample(np.array([now]))
        places = [frames.world(*each[0].tolist()) for each in s[:3]]
        yaw = frames.heading(float(s.yaw[0]))
        with self._sending:
            self._link.mav.set_position_target_local_ned_send(
                int(1e3 * time.monotonic()) % 2**32, self._system, 1, 1, _POSITION_TO_YAW,
                *places[0], *places[1], *places[2], yaw, 0.0,
            )  # fmt: skip

    def compare(
        self, reference: Reference, zero: float, begin: float, end: float
    ) -> dict[str, Errors]:
        """Return errors of a flight by PX4's estimate and by the simulator's truth.

        Beside them ``drift``, how far the estimate is from the truth meanwhile.
        """
        estimate, truth = np.array(self.estimate), np.array(self.truth)
        found = {
            name: errors(track, reference, zero, begin, end)
            for name, track in (('estimate', estimate), ('truth', truth))
        }
        counted = estimate[(estimate[:, 0] >= zero + begin) & (estimate[:, 0] <= zero + end)]
        true = [np.interp(counted[:, 0], truth[:, 0], place) for place in truth[:, 1:].T]
        return {**found, 'drift': errors_of(np.transpose(true) - counted[:, 1:])}


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; says whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
