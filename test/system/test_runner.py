"""The local runner: what it starts ends with it, however it ends itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter_client import AsyncParameterClient

from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.runner import LocalRunner, NodeDiedError, command, reserve_domain

pytestmark = pytest.mark.system

WAIT = 200.0  # s; a bound for what must happen, not a measurement

PARENT = """
import signal, sys, time
from hmpc_ros.ros.graph import simulation
from hmpc_ros.ros.runner import LocalRunner

with LocalRunner(simulation()) as runner:
    if len(sys.argv) > 1:
        while not runner.output('controller'):  # it says that it is ready
            time.sleep(0.05)
    print(*(runner.pid(spec.name) for spec in runner.nodes), flush=True)
    signal.pause()
"""


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(word) for word in text.split()]


def wait_until(condition, what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f'waited {WAIT:g} s for {what}'
        time.sleep(0.05)


def processor_time(pid: int) -> float:
    """Return what a process has worked so far [s]."""
    words = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')


@pytest.mark.parametrize('moment', ['while the nodes start', 'while they fly'])
def test_nodes_die_with_a_runner_that_is_killed(moment: str, tmp_path: Path):
    arguments = ['ready'] if moment == 'while they fly' else []
    parent = subprocess.Popen(
        [sys.executable, '-c', PARENT, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in pids), 'the nodes to end')


def test_leaving_the_context_ends_the_nodes_and_what_they_started(tmp_path: Path):
    module = tmp_path / 'stubborn_node.py'
    module.write_text(
        'import signal, subprocess, sys\n'
        'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
        'child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])\n'
        'print(child.pid, flush=True)\n'
        'signal.pause()\n'
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    spec = NodeSpec(executable='stubborn', module='stubborn_node', name='stubborn')
    with LocalRunner([spec], environment={'PYTHONPATH': path}) as runner:
        wait_until(lambda: runner.output('stubborn'), 'the node to start')
        pids = [runner.pid('stubborn'), int(runner.output('stubborn')[0])]
        assert all(alive(pid) for pid in pids)
    assert not alive(pids[0])
    wait_until(lambda: not alive(pids[1]), 'what the node started to end')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_flight_ends_a_node_without_an_error(number: signal.Signals):
    flight = simulation('reference', {'simulator': {'real_time_factor': 0.0}})
    with LocalRunner(flight) as runner:
        names = [spec.name for spec in flight]
        pids = [runner.pid(name) for name in names]
        wait_until(lambda: runner.output('controller'), 'the controller')  # it says it is ready
        flown_from = processor_time(pids[1])
        # In lockstep it is in a callback at almost any time, once it flies.
        wait_until(lambda: processor_time(pids[1]) > flown_from + 0.2, 'the flight')
        for pid in pids:
            os.kill(pid, number)
        wait_until(lambda: not any(alive(pid) for pid in pids), 'the nodes to end')
    for name in names:
        said = '\n'.join(runner.output(name))
        assert 'FATAL' not in said, said
        assert 'Traceback' not in said, said


def test_a_node_that_refuses_its_configuration_is_reported_with_its_own_words():
    nodes = simulation(parameters={'simulator': {'substeps': 0}})
    with LocalRunner(nodes[:1]) as runner, pytest.raises(NodeDiedError) as caught:
        wait_until(runner.check, 'the node to end')
    assert 'the node simulator exited (1)' in str(caught.value)
    assert 'substeps must be at least 1' in str(caught.value)


def test_a_node_that_is_killed_is_reported_with_the_signal():
    with LocalRunner(simulation()[:1]) as runner:
        os.kill(runner.pid('simulator'), signal.SIGKILL)
        with pytest.raises(NodeDiedError, match='SIGKILL'):
            wait_until(runner.check, 'the node to end')


def test_nodes_are_discovered_in_a_domain_of_their_own():
    with LocalRunner(simulation(), environment={'ROS_DOMAIN_ID': ''}) as runner:
        assert runner.environment['ROS_DOMAIN_ID'] != os.environ['ROS_DOMAIN_ID']
        with runner.joined():
            context = rclpy.Context()
            rclpy.init(context=context)
            node = rclpy.create_node('watcher', context=context)
            runner.wait_until_discovered(node, timeout=WAIT)
            node.destroy_node()
            context.try_shutdown()
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' not in os.environ


def test_in_a_namespace_the_nodes_have_the_values_of_the_parameter_file():
    nodes = simulation('disturbed', namespace='drone_1')
    with LocalRunner(nodes) as runner, runner.joined():
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node('watcher', context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        runner.wait_until_discovered(node, timeout=WAIT)
        for name, key, value in (
            ('simulator', 'motor_time_constant', 0.05),
            ('controller', 'limits.rotor_max', 650.0),
        ):
            client = AsyncParameterClient(node, f'/drone_1/{name}')
            wait_until(client.services_are_ready, name)
            answer = client.get_parameters([key])
            executor.spin_until_future_complete(answer, WAIT)
            assert answer.result().values[0].double_value == value
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


def test_two_runners_never_share_a_domain():
    held = [reserve_domain() for _ in range(20)]
    try:
        assert len({number for number, _ in held}) == 20
    finally:
        for _, lock in held:
            lock.close()


def test_a_program_that_is_not_installed_is_named_with_its_package():
    spec = NodeSpec(executable='no_such_rviz', module='', name='rviz', package='rviz2')
    with pytest.raises(FileNotFoundError, match=r'no_such_rviz is not on the PATH.*rviz2'):
        command(spec)


@pytest.mark.parametrize('to_group', [False, True])
def test_ctrl_c_ends_the_flight_and_its_nodes_without_a_traceback(to_group: bool, tmp_path: Path):
    flight = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'hmpc_ros.cli.main',
            'fly',
            '--real-time',
            '--steps',
            '5000',
            '--verbose',
            '--out',
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        while 'flight 0 starts' not in ''.join(lines[-1:]):
            lines.append(flight.stderr.readline())
            assert lines[-1], ''.join(lines)
        nodes = children(flight.pid)
        assert len(nodes) == 2
        if to_group:  # as a terminal does
            os.killpg(flight.pid, signal.SIGINT)
        else:
            flight.send_signal(signal.SIGINT)
        output, errors = flight.communicate(timeout=WAIT)
    finally:
        flight.kill()
        flight.wait()
    assert flight.returncode == 130, errors
    assert 'stopped' in errors
    assert 'Traceback' not in output + errors
    assert not any(alive(pid) for pid in nodes)
