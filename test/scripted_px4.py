"""A program that can be taken for PX4's bin/px4: a vehicle that flies, and two MAVLink links.

    px4 -d -i N -w FOLDER ETC

One link is the adapter's (`scripted_autopilot.FlyingAutopilot`), the other a ground station's:
arming, take-off, modes, landing, position targets, truth. It leaves offboard for hold half a second
after the last set-point.
"""

import math
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

os.environ['MAVLINK20'] = '1'

from scripted_autopilot import HOLD, OFFBOARD, FlyingAutopilot

from hmpc_ros.autopilots import frames, mavlink
from hmpc_ros.autopilots.thrust import GRAVITY

LATITUDE, LONGITUDE, HEIGHT = 47.4, 8.55, 480.0
EARTH = 6371000.0  # m
TAKEOFF, LAND = 4 << 16 | 2 << 24, 4 << 16 | 6 << 24
LATE = 0.15  # s, that its own controller is behind its targets
LOST = 0.5  # s without a set-point


def install(folder: Path) -> Path:
    """Return a program in a folder that looks like PX4's build."""
    airframe = folder / 'etc/init.d-posix/airframes/10040_sihsim_quadx'
    airframe.parent.mkdir(parents=True)
    airframe.touch()
    program = folder / 'bin/px4'
    program.parent.mkdir()
    path = ':'.join([str(Path(__file__).parent), *filter(None, sys.path)])
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{path}" exec {sys.executable} {__file__} "$@"\n'
    )
    program.chmod(0o755)
    return program


class ScriptedPx4(FlyingAutopilot):
    """PX4 on its two links, on the ground at first."""

    def __init__(self, number: int):
        from pymavlink import mavutil

        self.system = number + 1
        self._ground = mavutil.mavlink_connection(
            f'udpin:127.0.0.1:{18570 + number}', source_system=self.system, source_component=1,
            dialect='common',
        )  # fmt: skip
        self.targets: list = []  # (time, position ENU)
        self._heard = False  # of the ground station
        super().__init__(14540 + number, armed=False, mode=HOLD, system=self.system)
        self.place[2] = 0.0

    def _fly(self, step):
        now = time.monotonic()
        heard = [each[0] for each in (self.setpoints[-1:] + self.targets[-1:])]
        if self.mode == OFFBOARD and (not heard or now - max(heard) > LOST):
            self.mode = HOLD  # its failsafe
        by_position = self.targets and now - self.targets[-1][0] < LOST
        if self.mode == OFFBOARD and not by_position:
            super()._fly(step)
            return
        self.turned = np.array([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])  # north
        self.speed[:] = self.turning[:] = 0.0
        self.thrust = GRAVITY
        if self.mode == OFFBOARD:
            old = [place for when, place in self.targets[-50:] if when <= now - LATE]
            self.place = np.array(old[-1] if old else self.place)
        elif self.mode == TAKEOFF and self.armed:
            self.place[2] = min(3.0, self.place[2] + 2.0 * step)
            self.mode = HOLD if self.place[2] >= 3.0 else TAKEOFF
        elif self.mode == LAND:
            self.place[2] = max(0.0, self.place[2] - 2.0 * step)
            self.armed = self.armed and self.place[2] > 0.0

    def _tell(self, turn):
        super()._tell(turn)
        mav = self._ground.mav
        while (message := self._ground.recv_msg()) is not None:
            self._heard = True
            self._hear(message)
        if not self._heard:
            return
        now = round(1e6 * (time.monotonic() - self.boot))
        if turn % 10 == 0:
            mav.heartbeat_send(2, self.autopilot, 128 if self.armed else 0, self.mode, 4)
            mav.extended_sys_state_send(0, 2 if self.place[2] > 0.0 else 1)
        unknown = [math.nan] * 21
        mav.odometry_send(
            now, 1, self.child_frame, *self.position, list(self.quaternion), *self.velocity,
            *self.rates, unknown, unknown, self.resets, 8, self.quality,
        )  # fmt: skip
        if turn % 2 == 0:
            east, north, up = self.place
            lat = LATITUDE + math.degrees(north / EARTH)
            lon = LONGITUDE + math.degrees(east / EARTH / math.cos(math.radians(LATITUDE)))
            mav.hil_state_quaternion_send(
                now, list(self.quaternion), *self.rates, round(1e7 * lat), round(1e7 * lon),
                round(1e3 * (HEIGHT + up)), 0, 0, 0, 0, 0, 0, 0, 0,
            )  # fmt: skip

    def _hear(self, message):
        mav, kind = self._ground.mav, message.get_type()
        if kind == 'SET_POSITION_TARGET_LOCAL_NED':
            place = frames.world(message.x, message.y, message.z)
            self.targets.append((time.monotonic(), place))
        if kind != 'COMMAND_LONG':
            return
        if message.command == 512 and message.param1 == 148:
            mav.autopilot_version_send(0, 0x01110000, 0, 0, 0, [0] * 8, [0] * 8, [0] * 8, 0, 0, 0)
        elif message.command == 512 and message.param1 == 49:
            place = round(1e7 * LATITUDE), round(1e7 * LONGITUDE)
            mav.gps_global_origin_send(*place, round(1e3 * HEIGHT))
        elif message.command == 400:
            self.armed = message.param1 == 1
        elif message.command == 176:
            self.mode = round(message.param2) << 16 | round(message.param3) << 24
        mav.command_ack_send(message.command, 0)


def main() -> None:
    number = int(sys.argv[sys.argv.index('-i') + 1])
    px4 = ScriptedPx4(number)
    px4.autopilot = mavlink.PX4
    threading.Event().wait()  # until it is ended


if __name__ == '__main__':
    main()
