"""A node that feeds a controller process and keeps what it answers, for the fault tests."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from hmpc_ros.configuration.signature import is_unasked
from hmpc_ros.ros.conversions import nanoseconds

WAIT = 200.0  # s; a bound for what must happen, not a measurement


class Pilot:
    """A node that feeds the controller and keeps all it says."""

    def __init__(self, process, interface, base, *, step, odometry_qos=10, namespace=''):
        self.process = process
        self.interface, self.base, self.step = interface, base, step
        self.low, self.high = -np.inf, np.inf  # every command must lie within them
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node('pilot', context=self.context, namespace=namespace)
        self._diagnosed = f'{namespace}/controller: flight'.lstrip('/')
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.odometry = self.node.create_publisher(Odometry, 'odom', odometry_qos)
        self.goal = self.node.create_publisher(PoseStamped, 'goal_pose', 10)
        self.commands = []
        self.unasked = set()  # stamps of commands that say that they answer nothing
        self.diagnosis = None
        self.node.create_subscription(interface.message, interface.topic, self._on_command, 100)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._parameters = AsyncParameterClient(self.node, 'controller')
        self._lifecycle = self.node.create_client(ChangeState, 'controller/change_state')
        self._time = 0
        self.rest = np.zeros(interface.states)  # what is sent where nothing else is said

    def _on_command(self, message):
        command = np.empty(self.interface.inputs)
        self.interface.read_command(message, command)  # raises when not finite
        assert np.all((command >= self.low) & (command <= self.high))
        stamp = nanoseconds(message.header.stamp)
        self.commands.append((stamp, command))
        if is_unasked(message.header.frame_id):
            self.unasked.add(stamp)

    def _on_diagnostics(self, message):
        (status,) = message.status
        if status.name != self._diagnosed:
            return  # all controllers diagnose themselves on one topic
        self.diagnosis = SimpleNamespace(
            level=status.level,
            text=status.message,
            values={entry.key: entry.value for entry in status.values},
        )

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait_for(self, condition, what):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if condition():
                return
            if self.process.poll() is not None:
                pytest.fail(f'the controller ended while we waited for {what}')
            self.executor.spin_once(timeout_sec=0.1)
        pytest.fail(f'waited {WAIT} s for {what}; diagnosis: {self.diagnosis}')

    def _result(self, future, what):
        self.wait_for(future.done, what)
        return future.result()

    def transition(self, which):
        request = ChangeState.Request(transition=Transition(id=which))
        assert self._result(self._lifecycle.call_async(request), 'a transition').success

    def set(self, values):
        """Set parameters in one atomic request; return rclpy's result."""
        parameters = [_parameter(name, value) for name, value in values.items()]
        return self._result(
            self._parameters.set_parameters_atomically(parameters), 'parameters'
        ).result

    def get(self, *names):
        values = self._result(self._parameters.get_parameters(list(names)), 'parameters').values
        return [_value(value) for value in values]

    def connect(self):
        self.wait_for(
            lambda: (
                self._parameters.services_are_ready()
                and self._lifecycle.service_is_ready()
                and self.odometry.get_subscription_count()
                and self.goal.get_subscription_count()
                and self.node.count_publishers(self.interface.topic)
                and self.diagnosis is not None
            ),
            'the controller to be discovered',
        )

    def begin(self):
        """Bring the controller back to where every test starts: active, nothing received yet."""
        result = self.set(self.base)
        assert result.successful, result.reason
        self.transition(Transition.TRANSITION_DEACTIVATE)
        self.transition(Transition.TRANSITION_ACTIVATE)
        self.commands.clear()

    def stamp(self):
        self._time += self.step
        return self._time

    def send(self, state=None, stamp=None, change=None):
        """Publish an odometry and return its stamp; ``change`` spoils the message at the end."""
        stamp = self.stamp() if stamp is None else stamp
        message = Odometry(child_frame_id='base_link')
        message.header.frame_id = 'map'
        self.interface.write_state(self.rest if state is None else state, stamp, message)
        if change is not None:
            change(message)
        self.odometry.publish(message)
        return stamp

    def answer(self, stamp, count=1):
        """Wait for the command with this stamp (for the count-th one)."""
        self.wait_for(lambda: len(self._with(stamp)) >= count, f'command {count} of {stamp} ns')
        return self._with(stamp)[count - 1]

    def _with(self, stamp):
        return [command for time_, command in self.commands if time_ == stamp]

    def counts(self):
        """Return the counters of a diagnosis made from now on."""
        self.diagnosis = None
        self.wait_for(lambda: self.diagnosis is not None, 'diagnostics')
        return self.diagnosis.values

    def count(self, key):
        return int(self.counts()[key])

    def wait_for_count(self, key, expected):
        self.wait_for(
            lambda: int(self.diagnosis.values[key]) >= expected, f"'{key}' to reach {expected}"
        )


def _parameter(name, value):
    if value == []:
        return Parameter(name, Parameter.Type.DOUBLE_ARRAY, [])
    return Parameter(name, value=value)


def _value(message):
    value = Parameter.from_parameter_msg(SimpleNamespace(name='', value=message)).value
    return value if isinstance(value, (bool, int, float, str)) else list(value)


def start_controller(folder, *arguments):
    """Start the node; return the process and the file of its output."""
    output = folder / 'controller.txt'
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'
    }
    with output.open('w') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', 'hmpc_ros.ros.controller_node', '--ros-args', *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return process, output


def stop(process, sent=signal.SIGINT):
    if process.poll() is None:
        process.send_signal(sent)
        try:
            return process.wait(WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode


@contextmanager
def connected(pilot, process, output):
    """Connect the pilot to its controller; at the end that must go without an error."""
    try:
        pilot.connect()
        yield pilot
    finally:
        pilot.close()
        code = stop(process)
        text = output.read_text()
        print(text)
    assert code == 0
    assert 'Traceback' not in text


def set_field(path, value):
    *parents, leaf = path.split('.')

    def change(message):
        for name in parents:
            message = getattr(message, name)
        setattr(message, leaf, value)

    return change
