"""Node ``mavlink_adapter``: flies PX4 or ArduPilot over MAVLink, without any other ROS package.

ODOMETRY becomes `odom`, `rates_command` becomes SET_ATTITUDE_TARGET (body rates and throttle).
Here set-points are the heartbeat: an autopilot leaves its offboard or guided mode when they stop.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from hmpc_ros.autopilots import mavlink
from hmpc_ros.autopilots.state import BadEstimateError
from hmpc_ros.autopilots.take_off import Step
from hmpc_ros.autopilots.takeover import Request, Situation
from hmpc_ros.configuration.tables import TABLES
from hmpc_ros.plant.odometry import Three
from hmpc_ros.ros.adapter import Adapter
from hmpc_ros.ros.spinning import run

LEAD = 1.0  # s; PX4 wants set-points before it goes to offboard
CLIMB = 60.0  # s to get to the height of a take-off
SILENCE = 3.0  # s without a heartbeat, and the autopilot is gone
TIME_PERIOD = 0.25  # s between two questions about the autopilot's time
CHORES = 1.0  # s between two heartbeats of ours
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
ENOUGH = 0.7  # of the rate of states asked for; below it they are asked for again


class MavlinkAdapter(Adapter):
    """Between the controller and an autopilot that speaks MAVLink."""

    def __init__(self) -> None:
        """Open the link; raises ValueError when there is none to open."""
        self._thread: threading.Thread | None = None
        super().__init__('mavlink_adapter', TABLES['mavlink_adapter'], LEAD)
        s = self.settings
        self._link = mavlink.MavlinkLink(s['url'], s['baud'], s['system'])
        self.situation.silence = (
            f'no autopilot is heard at {s["url"]}: does it, or a router, send there as system '
            f'{s["system"]}?'
        )
        self.situation.estimate = 'the autopilot sends no ODOMETRY: it was asked to'
        self._autopilot = -1
        self._heard_at = -math.inf
        self._states = 0  # since the last chores
        self._options: int | None = None  # ArduPilot's GUID_OPTIONS
        self._closed = threading.Event()
        self._taken = threading.Event()
        self._thread = threading.Thread(target=self._listen, name='mavlink', daemon=True)
        self._thread.start()
        self._asked_at: deque[int] = deque(maxlen=10)  # questions about the time [ns]
        self.create_timer(CHORES, self._do_chores, clock=STEADY)
        self.create_timer(TIME_PERIOD, self._ask_time, clock=STEADY)
        self._started(f'connects to MAVLink system {s["system"]} at {s["url"]}')

    def destroy_node(self) -> None:
        """Give control back and close the link."""
        super().destroy_node()
        if self._thread is not None:
            self._closed.set()
            self._taken.set()
            self._thread.join()
            self._link.close()
            self._thread = None

    # -- from the autopilot --------------------------------------------------------------------

    def _listen(self) -> None:
        """Have the executor take what comes: all else of the node is its thread's."""
        while not self._closed.is_set():
            executor = self.executor
            if executor is None:
                self._closed.wait(0.01)
            elif self._link.wait(0.1):
                self._taken.clear()
                executor.create_task(self._take)
                while not (self._taken.wait(0.1) or self._closed.is_set()):
                    pass

    def _take(self) -> None:
        # Nothing may come out of a task: it ends the events executor, and the process with it.
        try:
            for message in self._link.messages():
                handler = self._HANDLERS.get(message.get_type())
                if handler is not None:
                    handler(self, message)
        except Exception as error:
            self.get_logger().error(
                f'cannot take a MAVLink message: {type(error).__name__}: {error}',
                throttle_duration_sec=2.0,
            )
        finally:
            self._taken.set()

    def _on_odometry(self, message: Any) -> None:
        self._states += 1
        try:
            self._state_came(mavlink.state_from_odometry(message))
        except BadEstimateError as error:
            self._bad_state_came(error)

    def _on_heartbeat(self, message: Any) -> None:
        if self._autopilot != message.autopilot:
            self._autopilot = message.autopilot
            name = mavlink.AUTOPILOT_NAMES.get(message.autopilot, 'an unknown autopilot')
            self.get_logger().info(f'hears {name} (MAV_AUTOPILOT {message.autopilot})')
        self._heard_at = time.monotonic()
        s = self.situation
        s.mode, s.external = mavlink.mode(message.autopilot, message.custom_mode)
        s.armed, s.failsafe = mavlink.is_armed(message), mavlink.in_failsafe(message)
        self._update()

    def _on_status(self, message: Any) -> None:
        self.situation.battery, self.voltage = mavlink.battery(message)

    def _on_attitude_target(self, message: Any) -> None:
        self._hover_throttle_came(message.thrust)

    def _on_acknowledgement(self, message: Any) -> None:
        refused = mavlink.result_text(message.result)
        if refused:
            self.get_logger().warning(
                f'the autopilot answered to the command {message.command}: {refused}',
                throttle_duration_sec=1.0,
            )

    def _on_text(self, message: Any) -> None:
        if message.severity <= 4:  # warnings and worse
            self.get_logger().warning(f'the autopilot says: {message.text}')

    def _on_time(self, message: Any) -> None:
        # tc1 is 0 in questions, of which autopilots have their own.
        if message.tc1 and message.ts1 in self._asked_at:
            now = self.get_clock().now().nanoseconds
            self._asked_at.remove(message.ts1)
            self._clock_of_autopilot.answered(1e-9 * message.ts1, 1e-9 * message.tc1, 1e-9 * now)

    def _on_parameter(self, message: Any) -> None:
        if message.param_id == 'GUID_OPTIONS':
            self._options = int(message.param_value)

    _HANDLERS = {
        'ODOMETRY': _on_odometry,
        'HEARTBEAT': _on_heartbeat,
        'SYS_STATUS': _on_status,
        'ATTITUDE_TARGET': _on_attitude_target,
        'COMMAND_ACK': _on_acknowledgement,
        'STATUSTEXT': _on_text,
        'PARAM_VALUE': _on_parameter,
        'TIMESYNC': _on_time,
    }

    def _look(self) -> None:
        s = self.situation
        s.connected = time.monotonic() - self._heard_at < SILENCE
        if not s.connected:
            s.mode = 'unknown'
        if self._autopilot == mavlink.ARDUPILOT and not (
            self._options is not None and self._options & mavlink.THRUST_AS_THRUST
        ):
            s.thrust = (
                'ArduPilot would take a thrust for a climb rate: set bit 3 (8) of its parameter '
                f'GUID_OPTIONS, which is {"unknown" if self._options is None else self._options}'
            )

    # -- to the autopilot ----------------------------------------------------------------------

    def _send(self, throttle: float, rates: Three) -> None:
        self._link.send_rates(rates, throttle)

    def _request(self, request: Request) -> None:
        self._link.request_mode(self._autopilot, request)

    def _take_off_steps(self, height: float) -> Sequence[Step]:
        link = self._link
        armed = Step('armed motors', link.request_arming, lambda s: s.armed)
        if self._autopilot == mavlink.PX4:

            def take_off() -> None:
                link.request_named_mode(mavlink.PX4_TAKE_OFF)

            def nothing() -> None:
                pass

            return (
                Step('take-off mode', take_off, lambda s: s.mode == 'takeoff', ('takeoff',)),
                replace(armed, modes=('takeoff',)),
                Step(
                    'hold at its height', nothing, lambda s: s.mode == 'hold', ('takeoff',), CLIMB
                ),
            )
        if self._autopilot == mavlink.ARDUPILOT:
            start = (self.situation.position or (0.0, 0.0, 0.0))[2]
            climb = partial(link.request_take_off, height)

            def high(s: Situation) -> bool:
                return s.position is not None and s.position[2] - start > 0.9 * height

            return (
                Step('guided mode', partial(link.request_mode, mavlink.ARDUPILOT, Request.TAKE),
                     lambda s: s.external, ('guided',)),
                replace(armed, modes=('guided',)),
                Step('its height', climb, high, ('guided',), CLIMB),
                Step('brake mode', partial(link.request_named_mode, mavlink.COPTER_BRAKE),
                     lambda s: s.mode == 'brake', ('guided', 'brake')),
            )  # fmt: skip
        return ()

    def _ask_time(self) -> None:
        if self.situation.connected:
            self._asked_at.append(self.get_clock().now().nanoseconds)
            self._link.ask_time(self._asked_at[-1])

    def _do_chores(self) -> None:
        """Say that we are here, and ask for what does not come."""
        self._link.send_heartbeat()
        if not self.situation.connected:
            return
        if self._states < ENOUGH * CHORES * self.settings['rate']:
            self._link.request_messages(mavlink.ODOMETRY, self.settings['rate'])
        self._states = 0
        if math.isnan(self.voltage):
            self._link.request_messages(mavlink.SYS_STATUS, 2.0)
        if not self.settings['hover_throttle'] and self._thrust is None:
            self._link.request_messages(mavlink.ATTITUDE_TARGET, 10.0)
        if self._autopilot == mavlink.ARDUPILOT and self._options is None:
            self._link.request_parameter('GUID_OPTIONS')


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(MavlinkAdapter, args)


if __name__ == '__main__':
    raise SystemExit(main())
