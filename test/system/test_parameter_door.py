"""Every node as its own process, sent parameter requests that no client should send."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from hmpc_ros.ros.conversions import nanoseconds, odometry_from_state

pytestmark = pytest.mark.system

WAIT = 200.0  # s; a bound for what must happen, not a measurement
# A parameter of each node that may be changed while it runs, and another value of it.
CHANGE = {
    'simulator': ('episode_steps', 7),
    'controller': ('goal.yaw', 0.5),
    'learner': ('iterations', 7),
    'visualizer': ('path_length', 7),
}


class Client:
    """Sends requests to the parameter services of one node, which is a process."""

    def __init__(self, name, folder):
        self.name = name
        self.output = folder / f'{name}.txt'
        self.environment = {
            k: v for k, v in os.environ.items() if k != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'
        }
        arguments = ['--ros-args', '-p', f'results:={folder}/run'] if name == 'learner' else []
        with self.output.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, '-m', f'hmpc_ros.ros.{name}_node', *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node('client', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.clients = {}

    def wait_for(self, condition, what):
        end = time.monotonic() + WAIT
        while not condition():
            assert self.process.poll() is None, f'{self.name} ended:\n{self.output.read_text()}'
            assert time.monotonic() < end, f'waited {WAIT} s for {what}'
            self.executor.spin_once(timeout_sec=0.1)

    def call(self, kind, service, **request):
        if service not in self.clients:
            self.clients[service] = self.node.create_client(kind, f'{self.name}/{service}')
        client = self.clients[service]
        self.wait_for(client.service_is_ready, service)
        future = client.call_async(kind.Request(**request))
        self.wait_for(future.done, f'an answer of {service}')
        return future.result()

    def set(self, *messages):
        return self.call(SetParameters, 'set_parameters', parameters=list(messages)).results

    def set_atomically(self, *messages):
        return self.call(
            SetParametersAtomically, 'set_parameters_atomically', parameters=list(messages)
        ).result

    def get(self, *names):
        return self.call(GetParameters, 'get_parameters', names=list(names)).values

    def close(self):
        self.process.terminate()
        try:
            code = self.process.wait(WAIT)
        finally:
            self.process.kill()
            self.executor.shutdown()
            self.node.destroy_node()
            rclpy.try_shutdown(context=self.context)
        return code


@pytest.fixture
def start(tmp_path):
    clients = []

    def started(name):
        clients.append(Client(name, tmp_path))
        return clients[-1]

    yield started
    for client in clients:
        assert client.close() == 0
        assert 'Traceback' not in client.output.read_text()


def typed(name, type_):
    return ParameterMessage(name=name, value=ParameterValue(type=type_))


def message(name, value):
    return Parameter(name, value=value).to_parameter_msg()


@pytest.mark.parametrize('name', list(CHANGE))
def test_a_malformed_request_is_refused_in_words_and_the_node_goes_on(start, name):
    client = start(name)
    parameter, value = CHANGE[name]
    for type_ in (10, 200):
        for result in (
            *client.set(typed(parameter, type_)),
            client.set_atomically(typed(parameter, type_)),
        ):
            assert not result.successful
            assert f'{parameter} is of type {type_}' in result.reason
    for bad in (typed('', 200), message('no.such', 1), typed('', 0)):
        result = client.set_atomically(message(parameter, value), bad)
        assert not result.successful
        assert f"there is no parameter '{bad.name}'" in result.reason
    assert list(client.get(parameter, 'no.such')) == []
    # Of one request with good and bad values each gets its own answer.
    bad, good = client.set(typed('no.such', 200), message(parameter, value))
    assert (bad.successful, good.successful) == (False, True)
    (stored,) = client.get(parameter)
    assert value in (stored.integer_value, stored.double_value)


def test_in_one_request_the_last_value_of_a_name_wins_and_others_are_tried_by_themselves(start):
    client = start('controller')
    results = client.set(
        *(message('goal.yaw', 0.001 * i) for i in range(5000)), message('goal.yaw', 0.5)
    )
    assert len(results) == 5001
    assert all(result.successful for result in results)
    (yaw,) = client.get('goal.yaw')
    assert yaw.double_value == 0.5
    # What does not go together is tried one by one.
    low, high = message('limits.rotor_min', 640.0), message('limits.rotor_max', 700.0)
    refused, taken = client.set(low, high)
    assert 'rotor_min' in refused.reason
    assert taken.successful
    # What only goes together is taken together.
    low, high = message('limits.rotor_min', 100.0), message('limits.rotor_max', 640.0)
    assert all(result.successful for result in client.set(low, high))


@pytest.mark.parametrize('kind', ['set', 'read'])
def test_a_flood_of_requests_takes_no_command_from_a_flight_and_not_its_ladder(start, kind):
    client = start('controller')
    client.wait_for(lambda: client.node.count_publishers('rotor_command'), 'the controller')
    odometry = client.node.create_publisher(Odometry, 'odom', 10)
    answered, diagnosis = [], {}

    def on_diagnostics(array):
        for status in array.status:
            diagnosis.update({entry.key: entry.value for entry in status.values})

    client.node.create_subscription(
        JointState, 'rotor_command', lambda m: answered.append(nanoseconds(m.header.stamp)), 100
    )
    client.node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
    client.wait_for(odometry.get_subscription_count, 'the controller to listen')
    state = Odometry(child_frame_id='base_link')
    state.header.frame_id = 'map'

    def fly(steps):
        """Send states at 50 Hz, whatever comes back; return their stamps."""
        stamps = [20_000_000 * (i + 1) for i in range(fly.steps, fly.steps + steps)]
        fly.steps += steps
        for stamp in stamps:
            odometry_from_state(np.zeros(12), stamp, state)
            odometry.publish(state)
            end = time.monotonic() + 0.02
            while (left := end - time.monotonic()) > 0:
                client.executor.spin_once(timeout_sec=left)
        return stamps

    fly.steps = 0
    client.wait_for(lambda: fly(10) and answered, 'the first command')
    flood = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / 'flood.py'), 'controller', '1000', kind],
        stdout=subprocess.PIPE,
        env=client.environment,
    )
    try:
        assert flood.stdout.readline()
        answered.clear()
        stamps = fly(500)
        client.wait_for(lambda: stamps[-1] in answered, 'the last command')
        # Only the newest state is kept: what waited for requests to be served would be skipped.
        assert len(set(answered) & set(stamps)) >= 0.8 * len(stamps)
        # And when states stay away, the ladder ends in silence.
        client.wait_for(lambda: int(diagnosis.get('silences', 0)) == 1, 'the end of the ladder')
        assert flood.poll() is None
    finally:
        flood.kill()
        flood.wait()


def test_a_request_about_too_many_names_is_answered_with_nothing(start):
    client = start('visualizer')
    assert list(client.get(*['path_length'] * 5000)) == []
    answer = client.call(ListParameters, 'list_parameters', prefixes=['a'] * 5000, depth=1)
    assert list(answer.result.names) == []
    assert 'path_length' in client.call(ListParameters, 'list_parameters').result.names
