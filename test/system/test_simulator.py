"""The simulator as its own process, driven by hand over DDS."""

import math
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.configuration import build, build_tracking, files
from hmpc_ros.configuration.signature import unasked
from hmpc_ros.ros.command_interface import RATES, ROTORS, CommandInterface
from hmpc_ros.ros.conversions import nanoseconds, new_rotor_command, set_rotor_speeds
from hmpc_ros.ros.flight_log import FlightLog, start_stamp
from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.recorder import FlightRecorder
from hmpc_ros.ros.runner import LocalRunner

pytestmark = pytest.mark.system

WAIT = 200.0  # s; a bound for what must happen, not a measurement
STEP = 100_000_000  # ns
HOVER = np.full(4, 620.6)


class Hand:
    """Flies the simulator by hand and keeps all it says."""

    def __init__(self, runner: LocalRunner, interface: CommandInterface = ROTORS):
        self.runner = runner
        self.interface = interface
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node('hand', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.states: list[tuple[int, np.ndarray]] = []
        self.clock: list[int] = []
        deep = QoSProfile(depth=1000)
        self.node.create_subscription(Odometry, 'odom', self._on_odometry, deep)
        self.node.create_subscription(
            Clock, '/clock', lambda message: self.clock.append(nanoseconds(message.clock)), deep
        )
        self.commands = self.node.create_publisher(interface.message, interface.topic, deep)
        self.reset_client = self.node.create_client(Trigger, 'simulator/reset')
        self.wait_for(
            lambda: (
                self.states
                and self.commands.get_subscription_count()
                and self.reset_client.service_is_ready()
            ),
            'the simulator',
        )

    def _on_odometry(self, message: Odometry) -> None:
        state = np.empty(self.interface.states)
        self.interface.read_state(message, state)
        assert message.header.frame_id == 'map'
        assert message.child_frame_id == 'base_link'
        self.states.append((nanoseconds(message.header.stamp), state))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait_for(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            self.runner.check()
            assert time.monotonic() < end, f'waited {WAIT:g} s for {what}'
            self.executor.spin_once(timeout_sec=0.05)

    def wait_for_report(self, text: str) -> None:
        self.wait_for(lambda: text in '\n'.join(self.runner.output('simulator')), text)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    @property
    def now(self) -> int:
        return self.states[-1][0]

    @property
    def state(self) -> np.ndarray:
        return self.states[-1][1]

    def send(self, speeds, stamp: int, signature: str = '') -> None:
        message = self.interface.new_command()
        message.header.frame_id = signature
        self.interface.write_command(np.asarray(speeds, dtype=float), stamp, message)
        self.commands.publish(message)

    def step(self, speeds=HOVER) -> np.ndarray:
        before = self.now
        self.send(speeds, before)
        self.wait_for(lambda: self.now > before, 'the next state')
        assert self.now == before + STEP
        return self.state

    def reset(self) -> int:
        answer = self.reset_client.call_async(Trigger.Request())
        self.wait_for(answer.done, 'reset')
        assert answer.result().success
        start = start_stamp(answer.result().message)
        self.wait_for(lambda: self.now >= start, 'the first state of the flight')
        return start


def simulator(**parameters) -> NodeSpec:
    values = {'real_time_factor': 0.0, 'resend_period': 0.1, **parameters}
    return simulation(parameters={'simulator': values})[0]


@pytest.fixture
def hand(request: pytest.FixtureRequest):
    parameters = getattr(request, 'param', {})
    with LocalRunner([simulator(**parameters)]) as runner:
        hand = Hand(runner)
        yield hand
        hand.close()


def test_lockstep_flies_the_plant_to_the_last_bit_that_odometry_keeps(hand: Hand):
    vehicle = build.vehicle(files.load(None)['simulator'])
    rng = np.random.default_rng(1)
    for _ in range(20):
        speeds = rng.uniform(600, 630, 4)
        vehicle.step(speeds)
        assert hand.step(speeds) == pytest.approx(vehicle.state, abs=1e-11)
    stamps = [stamp for stamp, _ in hand.states]
    assert stamps == sorted(stamps)
    hand.wait_for(lambda: hand.clock[-1] == hand.now, 'the time on /clock')


def test_commands_that_answer_nothing_are_ignored_and_reported(hand: Hand):
    hand.step()
    now, state = hand.now, hand.state
    for stamp in (now - STEP, now + STEP, now + 1, 0):
        hand.send([630, 600, 630, 600], stamp)
    hand.send([630, 600, 630, 600], now, unasked('abc'))
    nan = new_rotor_command()
    set_rotor_speeds(np.array([620.0, math.nan, 620.0, 620.0]), now, nan)
    short = JointState(name=['rotor_1', 'rotor_2', 'rotor_3'], velocity=[1.0, 2.0, 3.0])
    short.header.stamp = nan.header.stamp
    for message in (nan, short, JointState()):
        hand.commands.publish(message)
    hand.spin(0.5)
    assert (hand.now, hand.state.tolist()) == (now, state.tolist())
    hand.step()
    hand.wait_for_report('ignored a rotor command')


def test_a_recorder_takes_nothing_for_an_answer_that_says_it_is_none(hand: Hand):
    recorder, log = FlightRecorder(hand.node), FlightLog(1, 0.1)
    log.begin(hand.now)
    recorder.record(log)
    hand.wait_for(
        lambda: hand.commands.get_subscription_count() == 2 and recorder.states_heard,
        'the recorder to listen',
    )
    hand.send([640] * 4, hand.now, unasked('abc'))
    hand.step()
    hand.wait_for(lambda: log.complete, 'the record')
    assert log.flight().inputs.tolist() == [HOVER.tolist()]


def test_an_unanswered_state_is_sent_again_and_again_with_its_stamp(hand: Hand):
    hand.step()
    now, count = hand.now, len(hand.states)
    hand.wait_for(lambda: len(hand.states) >= count + 3, 'the state again')
    assert {stamp for stamp, _ in hand.states[count:]} == {now}


def test_stamps_increase_across_resets_and_the_answer_names_the_first(hand: Hand):
    for flight in range(1, 4):
        hand.step()
        hand.step()
        before = hand.now
        start = hand.reset()
        assert start > before
        first = next(state for stamp, state in hand.states if stamp == start)
        assert first == pytest.approx(np.zeros(12))
        hand.wait_for_report(f'flight {flight} starts')
        # The answer to a state from before the reset is not flown any more.
        hand.send(HOVER, before)
        hand.spin(0.2)
        assert hand.now == start


@pytest.mark.parametrize('hand', [{'start_paused': True, 'episode_steps': 3}], indirect=True)
def test_an_episode_is_flown_once_per_reset(hand: Hand):
    def holds() -> None:
        """Commands do nothing, time goes on, the state does not."""
        now, state = hand.now, hand.state
        hand.send([600] * 4, now)
        hand.wait_for(lambda: hand.now >= now + 2 * STEP, 'held states')
        assert hand.state.tolist() == state.tolist()

    holds()
    for _ in range(2):
        start = hand.reset()
        for _ in range(3):
            hand.step([600] * 4)
        assert hand.now == start + 3 * STEP
        holds()


@pytest.mark.parametrize('hand', [{'real_time_factor': 4.0}], indirect=True)
def test_paced_the_vehicle_rests_until_the_first_command_and_then_holds_the_last(hand: Hand):
    first, count = hand.now, len(hand.states)
    hand.wait_for(lambda: len(hand.states) >= count + 3, 'the resting state')
    assert hand.now == first
    assert hand.state.tolist() == [0.0] * 12
    hand.send([600] * 4, first)
    hand.wait_for(lambda: hand.now >= first + 5 * STEP, 'steps')
    vehicle = build.vehicle(files.load(None)['simulator'])
    states = {stamp: state for stamp, state in hand.states if stamp >= first}
    for stamp in sorted(states)[:5]:
        assert states[stamp] == pytest.approx(vehicle.state, abs=1e-11)
        vehicle.step(np.full(4, 600.0))


@pytest.mark.parametrize('hand', [{'real_time_factor': 4.0}], indirect=True)
def test_paced_a_flight_begins_with_the_answer_to_its_first_state(hand: Hand):
    first = hand.now
    hand.send([600] * 4, first)
    hand.wait_for(lambda: hand.now >= first + 3 * STEP, 'steps')
    start = hand.reset()
    # Late answers to states before the reset, and what nobody asked for, move nothing.
    hand.send([600] * 4, start - 3 * STEP)
    hand.send([600] * 4, start, unasked('abc'))
    count = len(hand.states)
    hand.wait_for(lambda: len(hand.states) >= count + 3, 'the state again')
    assert hand.now == start
    hand.send([600] * 4, start)
    hand.wait_for(lambda: hand.now >= start + 3 * STEP, 'steps')
    # In flight, what a controller sends when it hears nothing is flown, too.
    hand.send([640] * 4, hand.now, unasked('abc'))
    hand.wait_for(lambda: hand.state[2] > 0 or hand.state[5] > 0, 'the vehicle to climb')


@pytest.mark.parametrize(
    'hand',
    [{'process_noise_std': [0.01] * 12, 'measurement_noise_std': [0.02] * 12, 'seed': 7}],
    indirect=True,
)
def test_a_flight_has_the_noise_of_its_seed_and_number(hand: Hand):
    values = files.load(
        None,
        [
            'simulator.seed=7',
            f'simulator.process_noise_std={[0.01] * 12}',
            f'simulator.measurement_noise_std={[0.02] * 12}',
        ],
    )['simulator']
    hand.reset()
    vehicle = build.vehicle(values)
    vehicle.reset(np.zeros(12), flight=1)
    for _ in range(5):
        assert hand.state == pytest.approx(vehicle.measure(), abs=1e-9)
        vehicle.step(HOVER)
        hand.step()


def test_parameters_changed_between_flights_fly_from_the_next_reset_on(hand: Hand):
    from rclpy.parameter import Parameter
    from rclpy.parameter_client import AsyncParameterClient

    client = AsyncParameterClient(hand.node, 'simulator')
    hand.wait_for(client.services_are_ready, 'parameter services')
    elsewhere = [1.0, 2.0, 3.0] + [0.0] * 9
    future = client.set_parameters([Parameter('initial_state', value=elsewhere)])
    hand.wait_for(future.done, 'the parameter')
    assert future.result().results[0].successful
    assert np.abs(hand.step()[:3]).max() < 0.1
    hand.reset()
    assert hand.state.tolist() == elsewhere


def test_a_vehicle_under_thrust_and_rates_flies_the_offline_flight_from_reset_to_reset():
    values = {
        'backend': 'model',
        'preset': 'reference',
        'time_step': 0.01,
        'seed': 5,
        'position_noise_std': 0.01,
        'wind.kind': 'constant',
        'wind.mean': [0.0, 2.0, 0.0],
        'initial_state': [1.0, 2.0, 3.0, *[0.0] * 5, 0.7, *[0.0] * 3],
        'start_paused': True,
        'next_start': 50.0,
    }
    offline = files.from_values({'simulator': values})['simulator']
    vehicle, start = build_tracking.simulator(offline), build_tracking.initial_state(offline)
    command = [12.0, 0.3, -0.2, 0.1]
    with LocalRunner([simulator(**values)]) as runner:
        hand = Hand(runner, RATES)
        try:
            for flight in range(2):
                first = hand.reset()
                assert flight or first == 50_000_000_000
                vehicle.reset(start, flight)
                for _ in range(10):
                    before = hand.now
                    np.testing.assert_allclose(hand.state, vehicle.measure(), atol=1e-11)
                    hand.send([math.nan, 0.0, 0.0, 0.0], before)
                    hand.send([20.0, 5.0, 0.0, 0.0], before - 10_000_000)
                    hand.send(command, before)
                    hand.wait_for(lambda now=before: hand.now > now, 'the next state')
                    vehicle.step(command)
            hand.wait_for_report('ignored a rates command')
        finally:
            hand.close()
