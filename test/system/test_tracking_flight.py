"""`hmpc fly --config tracking` over ROS, with real processes: the offline flight to 1e-9."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from command_line import run_command

pytestmark = pytest.mark.system

SHAKEN = {
    'simulator.backend': 'model',
    'simulator.mass_scale': 1.2,
    'simulator.delay': 0.01,
    'simulator.wind.kind': 'dryden',
    'simulator.wind.mean': [0, 2, 0],
    'simulator.position_noise_std': 0.01,
    'simulator.velocity_noise_std': 0.02,
    'simulator.attitude_noise_std': 0.009,
    'simulator.rates_noise_std': 0.05,
    'simulator.seed': 3,
    'controller.tracking.rmse_after': 1.0,
}


def fly(out: Path, *words: str, **values) -> tuple[dict, dict]:
    """Run `hmpc fly` as a user does; return its JSON and its arrays."""
    given = ('--config', 'tracking', '--out', str(out), '--json', str(out / 'result.json'))
    done = run_command('fly', *given, *words, **values)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(out / 'flight.npz') as arrays:
        return json.loads((out / 'result.json').read_text()), dict(arrays)


@pytest.mark.parametrize(
    'values', [SHAKEN, {'simulator.backend': 'rotorpy', 'simulator.preset': 'hummingbird'}]
)
def test_a_flight_over_ros_is_the_offline_flight(tmp_path: Path, values: dict):
    steps = ('--steps', '250')
    flown, arrays = fly(tmp_path / 'ros', *steps, **values)
    offline, expected = fly(tmp_path / 'offline', '--offline', *steps, **values)
    assert (flown['mode'], offline['mode']) == ('ros', 'offline')
    for name in ('states', 'measured', 'inputs', 'estimates', 'reference_position'):
        np.testing.assert_allclose(arrays[name], expected[name], atol=1e-9, err_msg=name)
    for name in ('tracking.rmse_m', 'tracking.max_m'):
        assert flown[name] == pytest.approx(offline[name], rel=1e-9)
    assert (flown['failures'], flown['fallbacks']) == (0, 0)
    assert flown['inside_limits']
    assert flown['latency_ms.median'] > 0.0


def test_a_flight_at_the_pace_of_the_clock_stays_on_its_path(tmp_path: Path):
    # A fifth of real time: a control period of 50 ms is met on a busy machine, too.
    pace = ('--real-time', '0.2', '--steps', '150')
    flown, arrays = fly(tmp_path, *pace, **{'simulator.backend': 'model'})
    assert flown['inside_limits']
    assert flown['tracking.final_m'] < 0.3
    assert len(arrays['states']) == 151


def test_a_simulator_of_the_other_kind_of_command_is_refused(tmp_path: Path, capsys):
    from hmpc_ros.cli import main

    words = ['fly', '--config', 'tracking', '--set', 'simulator.backend=ours']
    assert main.main([*words, '--out', str(tmp_path)]) != 0
    assert 'rotor speeds' in capsys.readouterr().err


def test_lost_odometry_changes_nothing_about_a_flight_in_lockstep(tmp_path: Path):
    from hmpc_ros.ros.command_interface import RATES
    from hmpc_ros.ros.graph import NodeSpec, simulation
    from hmpc_ros.ros.local_flight import fly as fly_nodes

    steps = 150
    _, expected = fly(
        tmp_path, '--offline', '--steps', str(steps), **{'simulator.backend': 'model'}
    )
    values = {
        'simulator': {
            'backend': 'model',
            'start_paused': True,
            'episode_steps': steps,
            'next_start': 10.0,
            'resend_period': 0.05,
        },
        'controller': {'reference.begin': 10.0, 'state_timeout': 600.0},
    }
    simulator, controller = simulation('tracking', values)
    said: list[str] = []
    flown = fly_nodes(
        [
            replace(simulator, remappings=(('odom', 'odom_true'),)),
            controller,
            NodeSpec('relay', 'relay', 'relay'),
        ],
        steps,
        0.01,
        interface=RATES,
        reader=lambda _name, line: said.append(line),
        environment={
            'HMPC_TEST_RELAY': 'drop:0.1',
            'PYTHONPATH': str(Path(__file__).parent.parent),
        },
    )
    assert any('dropped 5' in line for line in said)
    np.testing.assert_allclose(flown.record.states, expected['states'], atol=1e-9)
    np.testing.assert_allclose(flown.record.inputs, expected['inputs'], atol=1e-9)


def test_a_reset_of_the_simulator_begins_the_reference_anew():
    from hmpc_ros.ros.command_interface import RATES
    from hmpc_ros.ros.graph import simulation
    from hmpc_ros.ros.local_flight import open_flights

    steps = 200
    values = {
        'simulator': {'backend': 'model', 'start_paused': True, 'episode_steps': steps},
        'controller': {'state_timeout': 600.0, 'reference.duration': 8.0, 'reference.ramp': 1.0},
    }
    with open_flights(simulation('tracking', values), interface=RATES) as flights:
        first, again = (flights.fly(steps, 0.01).record for _ in range(2))
    # What the first command was found with depends on whether the reset was heard of before it.
    np.testing.assert_allclose(again.states, first.states, atol=0.02)
    assert np.abs(first.states[-1, :3] - first.states[0, :3]).max() > 1.0


BEGIN = 1000  # s, stamp at which flights over ROS begin
LINE = np.linspace(0.0, 2.0, 21)


class Planner:
    """Sends a straight line of 2 m in x, to be flown in 4 s, a second into the flight."""

    def __init__(self):
        self.sent = False

    def listen(self, node):
        from nav_msgs.msg import Odometry
        from trajectory_msgs.msg import MultiDOFJointTrajectory

        self.publisher = node.create_publisher(MultiDOFJointTrajectory, 'trajectory', 10)
        node.create_subscription(Odometry, 'odom', self.on_odometry, 10)

    def close(self):
        pass

    def on_odometry(self, message):
        if not self.sent and message.header.stamp.sec > BEGIN:
            self.send()

    def send(self):
        from geometry_msgs.msg import Transform
        from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

        message = MultiDOFJointTrajectory()
        message.header.frame_id = 'map'
        for x in LINE:
            point = MultiDOFJointTrajectoryPoint(transforms=[Transform()])
            point.transforms[0].translation.x, point.transforms[0].translation.z = float(x), 1.0
            point.time_from_start.sec = int(2 * x)
            point.time_from_start.nanosec = int(1e9 * (2 * x - int(2 * x)))
            message.points.append(point)
        self.publisher.publish(message)
        self.sent = True


def test_a_flight_of_topics_is_recorded_whole_and_judged_by_what_it_was_told(tmp_path: Path):
    highlevel = pytest.importorskip('rosbags.highlevel')
    from rosbags.typesys import Stores, get_typestore

    from hmpc_ros.configuration import build_tracking, files
    from hmpc_ros.studies import tracking

    configuration = files.load(
        'config/tracking.yaml', ['simulator.backend=model', 'controller.reference.kind=topic']
    )
    reference, _ = build_tracking.reference(configuration)
    planner = Planner()
    flight, _, _ = tracking.fly_over_ros(
        configuration, reference, 900, record=tmp_path / 'flight.mcap', listeners=[planner],
        reader=lambda name, line: print(name, line),
    )
    assert planner.sent
    # It flew the line, and neither its reference nor its error are those of the hover before it.
    assert flight.states[-1, 0] == pytest.approx(2.0, abs=0.05)
    assert flight.reference.position[-1] == pytest.approx([2.0, 0.0, 1.0], abs=1e-3)
    assert np.abs(flight.errors).max() < 0.1
    counts: dict[str, int] = {}
    bag = tmp_path / 'flight.mcap'
    with highlevel.AnyReader([bag], default_typestore=get_typestore(Stores.EMPTY)) as found:
        for connection, _, raw in found.messages():
            found.deserialize(raw, connection.msgtype)
            counts[connection.topic] = counts.get(connection.topic, 0) + 1
    assert min(counts[f'/{name}'] for name in ('odom', 'rates_command', 'estimates')) >= 900
    told = ('trajectory', 'predicted_path', 'reference_path', 'flight_start', 'ground_truth')
    assert all(counts.get(f'/{name}', 0) for name in told), counts


def test_a_recording_of_a_flight_tells_the_flight_again(tmp_path):
    pytest.importorskip('mcap')
    from hmpc_ros.configuration import build_tracking, files
    from hmpc_ros.ros.recorded_flights import flights_in
    from hmpc_ros.studies import tracking

    configuration = files.load('config/tracking.yaml', ['simulator.backend=model'])
    reference, _ = build_tracking.reference(configuration)
    bag = tmp_path / 'flight.mcap'
    flown, _, _ = tracking.fly_over_ros(configuration, reference, 300, record=bag)
    (found,) = flights_in(bag)
    n = min(len(found.commands), flown.steps)
    assert n >= 298
    assert found.states[:n] == pytest.approx(flown.measured[:n], abs=1e-9)
    assert found.commands[:n] == pytest.approx(flown.inputs[:n], abs=1e-12)
