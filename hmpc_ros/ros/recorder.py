"""Records flights from ``odom`` and the command's topic, on any rclpy node."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node

from hmpc_ros.configuration.signature import is_unasked
from hmpc_ros.ros.aligned_log import AlignedLog
from hmpc_ros.ros.command_interface import ROTORS, CommandInterface
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.flight_log import FlightLog
from hmpc_ros.ros.qos import RECORDED


class FlightRecorder:
    """Feeds a `FlightLog` with what a flight's two topics carry.

        recorder = FlightRecorder(node)
        log = FlightLog(steps=200, time_step=0.1)
        recorder.record(log)
        log.begin(stamp)             # of the flight's first state, as the answer to a reset tells
        ...                          # spin until log.complete
        flight = log.flight()

    Attributes:
        states_heard: Odometry messages since construction.
        inputs_heard: Commands since construction.
        malformed: Messages that hold no state or no command.
        frame_id: That of the last odometry.
    """

    def __init__(
        self,
        node: Node,
        *,
        interface: CommandInterface = ROTORS,
        source_times: bool = False,
        on_message: Callable[[], None] | None = None,
        on_state: Callable[[int, NDArray[np.float64]], None] | None = None,
        on_command: Callable[[int, str], None] | None = None,
    ) -> None:
        """Subscribe on a node of the caller's, which also spins it.

        Args:
            node: in the namespace of the flight.
            interface: of the vehicle.
            source_times: measure the time from state to command where the messages were sent
                instead of here, free of this process's delays. Not with rclpy's EventsExecutor,
                which fails on callbacks that ask for it (rclpy 9.1.2).
            on_message: is called after each message was taken in.
            on_state: is called with each state's stamp [ns] and the state, before ``on_message``.
            on_command: is called with each command's stamp [ns] and signature, before
                ``on_message``.
        """
        self.states_heard = 0
        self.inputs_heard = 0
        self.malformed = 0
        self.frame_id = ''
        self._log: FlightLog | AlignedLog | None = None
        self._interface = interface
        self._on_message = on_message
        self._on_state = on_state
        self._on_command = on_command
        for type_, topic, take in (
            (Odometry, 'odom', self._take_odometry),
            (interface.message, interface.topic, self._take_command),
        ):
            callback = _with_source_time(take) if source_times else _with_arrival_time(take)
            node.create_subscription(type_, topic, callback, RECORDED)

    def record(self, log: FlightLog | AlignedLog | None) -> None:
        """Record into ``log`` from now on; whoever knows the first stamp calls its ``begin``."""
        self._log = log

    def _take_odometry(self, message: Odometry, seconds: float) -> None:
        self.states_heard += 1
        self.frame_id = message.header.frame_id
        if self._log is not None or self._on_state is not None:
            state = np.empty(self._interface.states)
            stamp = nanoseconds(message.header.stamp)
            try:
                self._interface.read_state(message, state)
            except ValueError:
                self.malformed += 1
                return
            if self._log is not None:
                self._log.add_state(stamp, state, seconds)
            if self._on_state is not None:
                self._on_state(stamp, state)
        if self._on_message is not None:
            self._on_message()

    def _take_command(self, message: Any, seconds: float) -> None:
        self.inputs_heard += 1
        if self._log is not None and not is_unasked(message.header.frame_id):
            command = np.empty(self._interface.inputs)
            try:
                self._interface.read_command(message, command)
            except ValueError:
                self.malformed += 1
                return
            stamp, signature = nanoseconds(message.header.stamp), message.header.frame_id
            self._log.add_input(stamp, command, seconds, signature)
            if self._on_command is not None:
                self._on_command(stamp, signature)
        if self._on_message is not None:
            self._on_message()


def _with_arrival_time(take: Callable[[Any, float], None]) -> Callable[[Any], None]:
    def callback(message: Any) -> None:
        take(message, time.monotonic())

    return callback


def _with_source_time(
    take: Callable[[Any, float], None],
) -> Callable[[Any, Mapping[str, Any]], None]:
    # rclpy looks at the number of arguments to know that the callback wants the second one.
    def callback(message: Any, info: Mapping[str, Any]) -> None:
        take(message, 1e-9 * info['source_timestamp'])

    return callback
