"""Records flights from ``odom`` and ``rotor_command``, on any rclpy node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.ros.conversions import (
    nanoseconds,
    rotor_speeds_from_joint_state,
    state_from_odometry,
)
from hmpc_ros.ros.flight_log import FlightLog, start_stamp

# Deep enough that a recorder which is kept waiting for seconds loses nothing.
_HISTORY = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


class FlightRecorder:
    """Feeds a `FlightLog` with what a flight's two topics carry.

        recorder = FlightRecorder(node)
        log = FlightLog(steps=200, time_step=0.1)
        recorder.start(log)          # asks the simulator for a new flight
        ...                          # spin until log.complete
        flight = log.flight()

    Attributes:
        states_heard: Odometry messages since construction.
        inputs_heard: Commands since construction.
        malformed: Messages that hold no state or no command.
    """

    def __init__(self, node: Node, *, on_message: Callable[[], None] | None = None) -> None:
        """Subscribe on a node of the caller's, which also spins it.

        Args:
            node: in the namespace of the flight.
            on_message: is called after each message was taken in.
        """
        self.states_heard = 0
        self.inputs_heard = 0
        self.malformed = 0
        self._log: FlightLog | None = None
        self._on_message = on_message
        node.create_subscription(Odometry, 'odom', self._on_odometry, _HISTORY)
        node.create_subscription(JointState, 'rotor_command', self._on_command, _HISTORY)
        self._reset = node.create_client(Trigger, 'simulator/reset')
        self._node = node

    @property
    def connected(self) -> bool:
        """Whether states and commands arrive and a flight can be asked for."""
        return bool(self.states_heard and self.inputs_heard and self._reset.service_is_ready())

    def start(self, log: FlightLog) -> Future:
        """Ask the simulator for a new flight, and record it into ``log``.

        Returns:
            A future of the first stamp [ns]; it fails with ValueError when the simulator refuses.
        """
        self._log = log
        started: Future = Future()

        def on_answer(answer: Future) -> None:
            try:
                response = answer.result()
                if not response.success:
                    raise ValueError(f'the simulator refused to reset: {response.message}')
                first = start_stamp(response.message)
            except Exception as error:  # a future hands on whatever went wrong
                started.set_exception(error)
                return
            log.begin(first)
            started.set_result(first)

        self._reset.call_async(Trigger.Request()).add_done_callback(on_answer)
        return started

    def _on_odometry(self, message: Odometry, info: Mapping[str, Any]) -> None:
        self.states_heard += 1
        if self._log is not None:
            state = np.empty(NX)
            try:
                state_from_odometry(message, state)
            except ValueError:
                self.malformed += 1
                return
            self._log.add_state(nanoseconds(message.header.stamp), state, _sent(info))
        if self._on_message is not None:
            self._on_message()

    def _on_command(self, message: JointState, info: Mapping[str, Any]) -> None:
        self.inputs_heard += 1
        if self._log is not None:
            speeds = np.empty(NU)
            try:
                rotor_speeds_from_joint_state(message, speeds)
            except ValueError:
                self.malformed += 1
                return
            self._log.add_input(nanoseconds(message.header.stamp), speeds, _sent(info))
        if self._on_message is not None:
            self._on_message()


def _sent(info: Mapping[str, Any]) -> float:
    """Return when the publisher sent a message [s]: free of the delays of this process."""
    return float(info['source_timestamp']) * 1e-9
