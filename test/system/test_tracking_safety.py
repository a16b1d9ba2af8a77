"""The tracking MPC's controller as its own process, fed with what can go wrong, over DDS."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from controller_pilot import Pilot, connected, set_field, start_controller
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, Transform, Twist
from nav_msgs.msg import Path
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from hmpc_ros.configuration import build_tracking
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.plant.odometry import quaternion_from_euler
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.rigid_body import resting_state
from hmpc_ros.policy.tracking.policy import Window
from hmpc_ros.ros.command_interface import RATES

pytestmark = pytest.mark.system

STEP = 50_000_000  # ns: a step of the plan, and of the ladder
GIVEN = {
    'policy.kind': 'tracking',
    'preset': 'reference',
    'time_step': 0.01,
    'reference.kind': 'hover',
    'reference.centre': [0.0, 0.0, 1.0],
}
VALUES = {name: parameter.default for name, parameter in CONTROLLER.items()} | GIVEN
POSITION = VALUES['tracking.position']
BASE = {
    'goal.position': [0.0, 0.0, 0.0],
    'tracking.position': POSITION,
    'tracking.limits.thrust_max': 0.0,
    'state_timeout': 600.0,  # keeps the ladder of `tick` out of tests that are not about it
    'max_fallback_steps': 3,
    'max_hover_steps': 4,
    'max_tilt': 1.0,
}
REST = resting_state(np.array([0.0, 0.0, 1.0]))
G = 9.81


def make_policy():
    return build_tracking.policy(build_tracking.alone(VALUES))


@pytest.fixture(scope='module')
def running(tmp_path_factory):
    parameters = {**GIVEN, 'qos_overrides./odom.subscription.depth': 100}
    process, output = start_controller(
        tmp_path_factory.mktemp('controller'),
        *(word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')),
    )
    pilot = Pilot(process, RATES, BASE, step=STEP)
    limits = make_policy().limits
    pilot.low, pilot.high, pilot.rest = limits.input_min, limits.input_max, REST
    pilot.output = output
    with connected(pilot, process, output):
        yield pilot


@pytest.fixture
def pilot(running):
    running.begin()
    return running


def at(x=0.0, roll=0.0):
    state = REST.copy()
    state[0] = x
    qx, qy, qz, qw = quaternion_from_euler(roll, 0.0, 0.0)
    state[6:10] = qw, qx, qy, qz
    return state


def beyond_measure():
    """Finite, and so far that the policy refuses to solve: the real way to make a solve fail."""
    return at(x=1e200)


def is_hover(command):
    return bool(np.allclose(command, [G, 0.0, 0.0, 0.0], atol=1e-9))


def test_the_first_valid_odometry_is_answered_with_the_solution_of_the_policy(pilot):
    state = at(x=0.05)
    command = pilot.answer(pilot.send(state))
    expected = make_policy().solve(state, Window(Hover(REST[:3]), 0.0)).input
    np.testing.assert_allclose(command, expected, atol=1e-9)
    assert abs(command[2]) > 0.1  # it pitches back


@pytest.mark.parametrize('flying', [False, True])
def test_invalid_odometry_gets_no_command_and_is_counted(pilot, flying):
    if flying:
        pilot.answer(pilot.send())
    before, sent = pilot.count('dropped'), len(pilot.commands)
    stamp = pilot.stamp()
    spoilt = [
        set_field('pose.pose.position.x', math.nan),
        set_field('pose.pose.orientation.w', math.nan),
        set_field('twist.twist.linear.y', math.inf),
        set_field('twist.twist.angular.z', -math.inf),
        set_field('pose.pose.orientation.w', 0.0),
        set_field('header.frame_id', 'odom'),
    ]
    for change in spoilt:
        pilot.send(stamp=stamp, change=change)
    pilot.send(stamp=stamp)
    pilot.answer(stamp)
    assert len(pilot.commands) == sent + 1
    assert pilot.count('dropped') == before + len(spoilt)


def test_a_failed_solve_flies_the_plan_then_level_hover_then_nothing_and_recovers(pilot):
    state = at(x=0.05)
    pilot.answer(pilot.send(state))
    plan = make_policy().solve(state, Window(Hover(REST[:3]), 0.0)).inputs
    failures = pilot.count('failures')
    answers = [pilot.answer(pilot.send(beyond_measure())) for _ in range(7)]
    np.testing.assert_allclose(answers[:3], plan[1:4], atol=1e-9)
    assert all(is_hover(answer) for answer in answers[3:])
    pilot.send(beyond_measure())
    pilot.wait_for_count('failures', failures + 8)
    assert pilot.diagnosis.level == DiagnosticStatus.ERROR
    assert len(pilot.commands) == 8
    assert is_hover(np.round(pilot.answer(pilot.send()), 6))


def test_level_hover_turns_a_tilted_vehicle_upright_and_carries_it(pilot):
    pilot.answer(pilot.send())
    assert pilot.set({'max_fallback_steps': 0}).successful
    state = at(x=1e200, roll=0.5)
    command = pilot.answer(pilot.send(state))
    assert command[0] == pytest.approx(G / math.cos(0.5))
    assert command[1] < -1.0
    np.testing.assert_allclose(command[2:], 0.0, atol=1e-9)


def test_odometry_that_stops_leads_down_the_ladder_and_its_return_ends_it(pilot):
    steps = {'max_fallback_steps': 4, 'max_hover_steps': 3, 'state_timeout': 0.1}
    assert pilot.set(steps).successful
    timeouts, silences = pilot.count('timeouts'), pilot.count('silences')
    last = pilot.send(at(x=0.05))
    pilot.answer(last)
    pilot.wait_for_count('silences', silences + 1)
    assert pilot.count('timeouts') == timeouts + 1
    assert pilot.diagnosis.level == DiagnosticStatus.ERROR
    fallbacks = [entry for entry in pilot.commands if entry[0] != last]
    hovering = [is_hover(command) for _, command in fallbacks]
    first_hover = hovering.index(True)
    assert not any(hovering[:first_hover])
    assert all(hovering[first_hover:])
    assert first_hover >= 1
    # A fallback must not pass for the answer to an odometry.
    assert all(stamp > last for stamp, _ in fallbacks)
    assert {stamp for stamp, _ in fallbacks} <= pilot.unasked
    assert last not in pilot.unasked
    pilot.answer(pilot.send(stamp=last + 1000 * STEP))


def test_the_policy_answers_at_any_attitude(pilot):
    pilot.answer(pilot.send())
    tilts = pilot.count('tilts')
    for roll in (1.2, 2.0, 3.1):
        pilot.answer(pilot.send(at(roll=roll)))
    assert pilot.count('tilts') == tilts


def test_weights_and_limits_change_in_flight_and_bad_values_are_refused_whole(pilot):
    state = at(x=0.05)
    old = pilot.answer(pilot.send(state))
    assert pilot.set({'tracking.position': [2.0, 2.0, 2.0]}).successful
    new = pilot.answer(pilot.send(state))
    assert np.abs(new - old).max() > 0.05
    refused = pilot.set({'tracking.position': POSITION, 'tracking.limits.thrust_max': -1.0})
    assert not refused.successful
    assert 'tracking.limits.thrust_max' in refused.reason
    assert pilot.get('tracking.position') == [[2.0, 2.0, 2.0]]
    assert pilot.set({'tracking.limits.thrust_max': 9.0}).successful
    assert pilot.answer(pilot.send(at()))[0] <= 9.0


@pytest.fixture
def shown(pilot):
    """What the controller publishes besides commands, by topic."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    heard = SimpleNamespace(reference=[], plan=[], estimates=[])
    subscriptions = [
        pilot.node.create_subscription(Path, 'reference_path', heard.reference.append, latched),
        pilot.node.create_subscription(Path, 'predicted_path', heard.plan.append, 10),
        pilot.node.create_subscription(JointState, 'estimates', heard.estimates.append, 10),
    ]

    def all_told():
        # Discovery is done when the controller has seen the subscriptions, too.
        if not (heard.plan and heard.estimates and heard.reference):
            pilot.answer(pilot.send())
        return bool(heard.plan and heard.estimates and heard.reference)

    pilot.wait_for(all_told, 'reference, plan and estimates')
    yield heard
    for subscription in subscriptions:
        pilot.node.destroy_subscription(subscription)


def end(path):
    last = path.poses[-1].pose.position
    return [last.x, last.y, last.z]


def test_plan_reference_and_estimates_are_told(pilot, shown):
    assert len(shown.plan[-1].poses) == 21
    assert end(shown.reference[-1]) == [0.0, 0.0, 1.0]
    estimates = dict(zip(shown.estimates[-1].name, shown.estimates[-1].position, strict=True))
    assert estimates['thrust_ratio'] == pytest.approx(1.0, abs=0.1)
    assert estimates['thrust'] == pytest.approx(G, abs=0.5)


def test_a_far_goal_pose_is_flown_to_along_a_bounded_path_and_told_by_the_parameters(pilot, shown):
    message = PoseStamped()
    message.header.frame_id = 'map'
    message.pose.position.x, message.pose.position.z = 10.0, 1.0
    message.pose.orientation.w = 1.0
    pilot.goal.publish(message)
    pilot.wait_for(lambda: pilot.get('goal.position') == [[10.0, 0.0, 1.0]], 'the goal')
    pilot.answer(pilot.send())
    # One that was told before may come in between.
    goal = np.array([10.0, 0.0, 1.0])
    pilot.wait_for(
        lambda: shown.reference and np.allclose(end(shown.reference[-1]), goal, atol=1e-6),
        'the new reference',
    )
    path = shown.reference[-1]
    x = np.array([pose.pose.position.x for pose in path.poses])
    assert np.diff(x).max() < 0.05 * 5.01  # poses are 50 ms apart, 5 m/s the most
    command = pilot.answer(pilot.send())
    assert command[2] < 3.0


def trajectory(speed):
    """A straight line of 4 m in x at a speed [m/s], from rest to rest, as planners send it."""
    message = MultiDOFJointTrajectory()
    message.header.frame_id = 'map'
    times = np.linspace(0.0, 4.0 / speed, 9)
    for time, x in zip(times, np.linspace(0.0, 4.0, 9), strict=True):
        point = MultiDOFJointTrajectoryPoint(transforms=[Transform()], velocities=[Twist()])
        point.transforms[0].translation.x, point.transforms[0].translation.z = float(x), 1.0
        point.velocities[0].linear.x = float(speed)
        point.time_from_start.sec = int(time)
        point.time_from_start.nanosec = int(1e9 * (time - int(time)))
        message.points.append(point)
    return message


def test_a_trajectory_is_flown_and_one_beyond_the_vehicle_is_refused_with_numbers(pilot, shown):
    publisher = pilot.node.create_publisher(MultiDOFJointTrajectory, 'trajectory', 10)
    try:
        pilot.wait_for(publisher.get_subscription_count, 'the controller to listen')
        publisher.publish(trajectory(speed=40.0))
        pilot.wait_for(
            lambda: 'trajectory refused: the vehicle cannot fly' in pilot.output.read_text(),
            'the refusal',
        )
        assert 'm/s^2 (at most 24.20)' in pilot.output.read_text()
        pilot.answer(pilot.send())
        assert end(shown.reference[-1]) != [4.0, 0.0, 1.0]
        publisher.publish(trajectory(speed=1.0))

        def flown():
            pilot.answer(pilot.send())
            return np.allclose(end(shown.reference[-1]), [4.0, 0.0, 1.0], atol=1e-6)

        pilot.wait_for(flown, 'the trajectory to be the reference')
    finally:
        pilot.node.destroy_publisher(publisher)
