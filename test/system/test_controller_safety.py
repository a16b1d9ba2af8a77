"""The controller as its own process, fed with what can go wrong, over DDS."""

import math
import re
import signal
import time
from collections import Counter

import numpy as np
import pytest

pytest.importorskip('rclpy')

from controller_pilot import WAIT, Pilot, connected, set_field, start_controller, stop
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from goal_poses import pose_from_goal
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Path
from rclpy.qos import QoSProfile, ReliabilityPolicy

from hmpc_ros.configuration import build
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.weights import Weights
from hmpc_ros.ros.command_interface import ROTORS
from hmpc_ros.ros.conversions import nanoseconds

pytestmark = pytest.mark.system

STEP = 100_000_000  # ns
GOAL = [-6.0, -3.5, 0.0]
DEFAULTS = {name: parameter.default for name, parameter in CONTROLLER.items()}
HOVER = build.vehicle_parameters(DEFAULTS).hover_speed

# What every test starts from. The long timeout keeps the ladder of `tick` out of tests that are not
# about it, however slow the machine.
BASE = {
    'goal.position': GOAL,
    'goal.yaw': 0.0,
    'policy.q': DEFAULTS['policy.q'],
    'policy.r': DEFAULTS['policy.r'],
    'limits.rotor_min': 0.0,
    'limits.rotor_max': 630.0,
    'state_timeout': 600.0,
    'max_fallback_steps': 3,
    'max_hover_steps': 4,
    'max_tilt': 1.0,
    'clock_reset_threshold': 1.0,
}


def make_pilot(process, **more):
    pilot = Pilot(process, ROTORS, BASE, step=STEP, **more)
    pilot.low, pilot.high = 0.0, 630.0
    return pilot


@pytest.fixture(scope='module')
def running(tmp_path_factory):
    """One controller for most tests, and the pilot that is connected to it."""
    process, output = start_controller(
        tmp_path_factory.mktemp('controller'),
        # It keeps the newest odometry only; here none that we spoil may be skipped.
        *('-p', 'qos_overrides./odom.subscription.depth:=100'),
    )
    pilot = make_pilot(process)
    with connected(pilot, process, output):
        yield pilot


@pytest.fixture
def pilot(running):
    running.begin()
    return running


def tilted(roll):
    state = np.zeros(12)
    state[6] = roll
    return state


def far_away():
    """Finite, and so far that no QP solver can cope: the real way to make a solve fail."""
    state = np.zeros(12)
    state[0] = 1e200
    return state


def is_hover(speeds):
    return bool(np.allclose(speeds, HOVER, atol=1e-6))


def expected_command(state, goal, **changes):
    """What the MPC of this process answers."""
    return build.mpc(DEFAULTS | changes).solve(np.asarray(state, float), goal).input


SPOILT = [
    (set_field('pose.pose.position.x', math.nan), 'state not finite'),
    (set_field('pose.pose.orientation.w', math.nan), 'state not finite'),
    (set_field('twist.twist.linear.y', math.inf), 'state not finite'),
    (set_field('twist.twist.angular.z', -math.inf), 'state not finite'),
    (set_field('pose.pose.orientation.w', 0.0), 'orientation no unit quaternion'),
    (set_field('header.frame_id', 'odom'), 'wrong frame'),
]


@pytest.mark.parametrize('flying', [False, True])
def test_invalid_odometry_gets_no_command_and_is_counted(pilot, flying):
    if flying:
        pilot.answer(pilot.send())
    before = pilot.counts()
    sent = len(pilot.commands)
    stamp = pilot.stamp()
    for change, _ in SPOILT:
        pilot.send(stamp=stamp, change=change)
    # The next valid state is answered as if nothing had been.
    pilot.send(stamp=stamp)
    pilot.answer(stamp)
    assert len(pilot.commands) == sent + 1
    after = pilot.counts()
    for key, times in Counter(f'dropped: {reason}' for _, reason in SPOILT).items():
        assert int(after[key]) == int(before[key]) + times, key


def test_the_first_valid_odometry_is_answered_with_the_solution_of_the_mpc(pilot):
    assert pilot.commands == []
    command = pilot.answer(pilot.send())
    np.testing.assert_allclose(command, expected_command(np.zeros(12), Goal(GOAL)), atol=1e-6)


def test_a_repeated_stamp_gets_the_same_command_again_without_a_solve(pilot):
    stamp = pilot.send()
    first = pilot.answer(stamp)
    solves = pilot.count('solves')
    pilot.send(stamp=stamp)
    np.testing.assert_array_equal(pilot.answer(stamp, count=2), first)
    assert pilot.count('solves') == solves


def test_a_stamp_that_goes_back_is_dropped(pilot):
    first, second = pilot.stamp(), pilot.stamp()
    pilot.answer(pilot.send(stamp=second))
    key = 'dropped: stamp went back'
    before = pilot.count(key)
    pilot.send(stamp=first)
    pilot.wait_for_count(key, before + 1)
    assert [stamp for stamp, _ in pilot.commands] == [second]
    pilot.answer(pilot.send())


def test_a_clock_that_starts_again_is_a_new_run(pilot):
    before = pilot.count('new runs')
    pilot.answer(pilot.send(stamp=pilot.stamp() + 1000 * STEP))
    pilot.answer(pilot.send())
    assert pilot.count('new runs') == before + 1


def test_excessive_tilt_flies_the_plan_then_hover_then_nothing_and_recovers(pilot):
    pilot.answer(pilot.send())
    tilts = pilot.count('tilts')
    stamps = [pilot.stamp() for _ in range(7)]
    answers = [pilot.answer(pilot.send(tilted(1.1), stamp)) for stamp in stamps]
    assert [is_hover(answer) for answer in answers] == [False] * 3 + [True] * 4
    pilot.send(tilted(-1.1))
    pilot.wait_for_count('tilts', tilts + 8)
    assert pilot.diagnosis.level == DiagnosticStatus.ERROR
    assert pilot.diagnosis.text == 'no command is sent'
    assert len(pilot.commands) == 8
    pilot.answer(pilot.send())


def test_a_first_state_with_excessive_tilt_gets_no_command(pilot):
    before = pilot.count('tilts')
    pilot.send(tilted(1.1))
    pilot.wait_for_count('tilts', before + 1)
    assert pilot.commands == []


def test_a_failed_solve_flies_the_plan_then_hover_then_nothing_and_recovers(pilot):
    pilot.answer(pilot.send())
    plan = build.mpc(DEFAULTS).solve(np.zeros(12), Goal(GOAL)).inputs + HOVER
    failures = pilot.count('failures')
    answers = [pilot.answer(pilot.send(far_away())) for _ in range(7)]
    for k in range(3):
        np.testing.assert_allclose(answers[k], np.clip(plan[k + 1], 0.0, 630.0), atol=1e-4)
    assert all(is_hover(answer) for answer in answers[3:])
    pilot.send(far_away())
    pilot.wait_for_count('failures', failures + 8)
    assert pilot.diagnosis.level == DiagnosticStatus.ERROR
    assert len(pilot.commands) == 8
    command = pilot.answer(pilot.send())
    np.testing.assert_allclose(command, expected_command(np.zeros(12), Goal(GOAL)), atol=1e-4)


def test_odometry_that_stops_leads_down_the_ladder_and_its_return_ends_it(pilot):
    steps = {'max_fallback_steps': 8, 'max_hover_steps': 6, 'state_timeout': 0.2}
    assert pilot.set(steps).successful
    timeouts, silences = pilot.count('timeouts'), pilot.count('silences')
    last = pilot.send()
    pilot.answer(last)
    pilot.wait_for_count('silences', silences + 1)
    assert pilot.count('timeouts') == timeouts + 1
    assert pilot.diagnosis.level == DiagnosticStatus.ERROR

    fallbacks = [entry for entry in pilot.commands if entry[0] != last]
    hovering = [is_hover(speeds) for _, speeds in fallbacks]
    first_hover = hovering.index(True)
    assert not any(hovering[:first_hover])
    assert all(hovering[first_hover:])
    assert 1 <= first_hover <= 8
    assert 1 <= len(hovering) - first_hover <= 6
    # A fallback must not pass for the answer to an odometry.
    assert all(stamp > last for stamp, _ in fallbacks)
    assert {stamp for stamp, _ in fallbacks} <= pilot.unasked
    assert last not in pilot.unasked

    pilot.answer(pilot.send(stamp=last + 1000 * STEP))


def test_weights_change_in_flight(pilot):
    pilot.answer(pilot.send())
    state = np.zeros(12)
    state[:3] = -5.8, -3.4, 0.1
    weights = Weights.for_model(build.model(DEFAULTS), [2.0] * 12, [0.3] * 4)
    changed = {f'policy.{name}': list(getattr(weights, name)) for name in 'qrp'}
    old = pilot.answer(pilot.send(state))
    assert pilot.set(changed).successful
    new = pilot.answer(pilot.send(state))
    np.testing.assert_allclose(new, expected_command(state, Goal(GOAL), **changed), atol=1e-4)
    assert np.abs(new - old).max() > 0.1
    assert pilot.get('policy.r', 'policy.p') == [changed['policy.r'], changed['policy.p']]
    assert pilot.set({'policy.p': []}).successful


def test_limits_change_in_flight(pilot):
    pilot.answer(pilot.send())
    assert pilot.set({'limits.rotor_min': 615.0, 'limits.rotor_max': 622.0}).successful
    command = pilot.answer(pilot.send())
    assert np.all((command >= 615.0) & (command <= 622.0))


def test_the_goal_changes_in_flight_by_parameter_and_by_topic(pilot):
    pilot.answer(pilot.send())
    assert pilot.set({'goal.position': [1.0, 2.0, 3.0], 'goal.yaw': 0.5}).successful
    command = pilot.answer(pilot.send())
    np.testing.assert_allclose(
        command, expected_command(np.zeros(12), Goal([1.0, 2.0, 3.0], 0.5)), atol=1e-4
    )

    goal = Goal([0.5, -1.0, 2.0], -0.3)
    message = PoseStamped()
    message.header.frame_id = 'map'
    pose_from_goal(goal, message)
    pilot.goal.publish(message)
    pilot.wait_for(lambda: pilot.get('goal.position') == [[0.5, -1.0, 2.0]], 'the goal')
    command = pilot.answer(pilot.send())
    np.testing.assert_allclose(command, expected_command(np.zeros(12), goal), atol=1e-4)


@pytest.mark.parametrize('bad', ['frame', 'number', 'orientation'])
def test_an_invalid_goal_pose_is_refused(pilot, bad):
    message, good = PoseStamped(), PoseStamped()
    if bad == 'frame':
        message.header.frame_id = 'odom'
    elif bad == 'number':
        message.pose.position.y = math.nan
    else:
        message.pose.orientation.w = 0.0
    pose_from_goal(Goal([0.0, 0.0, 7.0]), good)
    pilot.goal.publish(message)
    pilot.goal.publish(good)
    pilot.wait_for(lambda: pilot.get('goal.position') == [[0.0, 0.0, 7.0]], 'the good goal')
    pilot.answer(pilot.send())


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'policy.q': [1.0] * 11}, 'policy.q needs 12 values, got 11'),
        ({'policy.r': [1.0, math.nan, 1.0, 1.0]}, 'policy.r must be finite'),
        ({'policy.p': [1.0] * 77}, 'policy.p needs 78 values, got 77'),
        ({'limits.velocity': [2.0, -2.0, 2.0]}, 'limits.velocity must be at least'),
        ({'limits.rotor_min': 600.0, 'limits.rotor_max': 500.0}, 'rotor_min < rotor_max'),
        ({'limits.rotor_max': 600.0}, 'hover'),
        ({'limits.rotor_max': math.inf}, 'limits.rotor_max must be finite'),
        ({'max_fallback_steps': -1}, 'max_fallback_steps must be at least 0'),
        ({'goal.yaw': 'north'}, 'goal.yaw needs a number'),
        ({'horizon': 13}, 'read-only'),
    ],
)
def test_a_change_with_one_bad_value_is_refused_whole_with_the_reason(pilot, changes, reason):
    before = pilot.answer(pilot.send())
    names = ['goal.position', *changes]
    values = pilot.get(*names)
    result = pilot.set({'goal.position': [9.0, 9.0, 9.0]} | changes)
    assert not result.successful
    assert re.search(reason, result.reason), result.reason
    assert pilot.get(*names) == values
    np.testing.assert_allclose(pilot.answer(pilot.send()), before, atol=1e-4)


def test_an_inactive_controller_sends_nothing(pilot):
    pilot.answer(pilot.send())
    pilot.transition(Transition.TRANSITION_DEACTIVATE)
    states = pilot.count('states')
    pilot.send()
    assert pilot.count('states') == states
    assert pilot.diagnosis.text == 'inactive'
    assert len(pilot.commands) == 1
    pilot.transition(Transition.TRANSITION_ACTIVATE)
    pilot.answer(pilot.send())


def test_the_predicted_path_starts_at_the_vehicle_and_is_there_for_who_listens(pilot):
    paths = []
    subscription = pilot.node.create_subscription(Path, 'predicted_path', paths.append, 10)
    try:
        pilot.wait_for(
            lambda: pilot.node.count_publishers('predicted_path'), 'the publisher of the path'
        )
        state = np.zeros(12)
        state[:3] = -1.0, 2.0, 0.5

        def flown():
            # Discovery is done when the controller has seen the subscription, too.
            if not paths:
                pilot.answer(pilot.send(state))
            return bool(paths)

        pilot.wait_for(flown, 'a predicted path')
    finally:
        pilot.node.destroy_subscription(subscription)
    path = paths[0]
    assert path.header.frame_id == 'map'
    assert len(path.poses) == 13
    start = path.poses[0].pose.position
    np.testing.assert_allclose([start.x, start.y, start.z], state[:3], atol=1e-6)
    times = [nanoseconds(pose.header.stamp) for pose in path.poses]
    assert np.all(np.diff(times) == STEP)


def test_odometry_that_is_old_by_its_stamp_is_not_flown_and_the_diagnosis_says_why(pilot):
    pilot.answer(pilot.send())
    assert pilot.counts()['state age by'] == 'arrival'  # of a clock that began a moment ago
    # From here on stamps are the system's time, as those of a vehicle's own computer.
    pilot.begin()
    pilot.answer(pilot.send(stamp=time.time_ns()))
    assert pilot.counts()['state age by'] == 'stamp and arrival'
    assert pilot.set({'state_timeout': 5.0}).successful
    old = pilot.count('dropped: too old by its stamp')
    late = [pilot.send(stamp=time.time_ns() - 7_000_000_000) for _ in range(3)]
    pilot.wait_for_count('dropped: too old by its stamp', old + 1)
    assert not any(pilot._with(stamp) for stamp in late)
    pilot.answer(pilot.send(stamp=time.time_ns()))


def test_a_stamp_that_ran_ahead_locks_no_good_odometry_out(pilot):
    for _ in range(3):
        pilot.answer(pilot.send(stamp=time.time_ns()))
    ahead = pilot.count('stamps that ran ahead')
    pilot.answer(pilot.send(stamp=time.time_ns() + 900_000_000))
    pilot.answer(pilot.send(stamp=time.time_ns()))
    assert pilot.count('stamps that ran ahead') == ahead + 1
    pilot.answer(pilot.send(stamp=time.time_ns()))


def test_a_parameter_that_does_not_exist_is_refused_by_name(pilot):
    result = pilot.set({'policy.qq': 1.0})
    assert not result.successful
    assert 'policy.qq' in result.reason


def test_diagnostics_tell_what_an_operator_asks(pilot):
    pilot.answer(pilot.send())
    pilot.count('states')
    for key in ('state age [s]', 'solve time median [ms]', 'solve time 99 % [ms]'):
        assert float(pilot.diagnosis.values[key]) > 0.0
    for key in ('failures', 'fallbacks', 'missed deadlines', 'dropped'):
        assert int(pilot.diagnosis.values[key]) >= 0
    assert pilot.diagnosis.level == DiagnosticStatus.OK
    assert pilot.diagnosis.text == 'flying'


def test_without_autostart_the_lifecycle_decides_and_best_effort_odometry_is_matched(tmp_path):
    process, output = start_controller(
        tmp_path,
        *('-r', '__ns:=/other'),  # next to the controller of the other tests
        *('-p', 'autostart:=false'),
        *('-p', 'qos_overrides./other/odom.subscription.reliability:=best_effort'),
    )
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    pilot = make_pilot(process, odometry_qos=best_effort, namespace='/other')
    try:
        pilot.wait_for(pilot._lifecycle.service_is_ready, 'the node')
        assert pilot.node.count_publishers('rotor_command') == 0
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            pilot.transition(transition)
        pilot.connect()
        stamp = pilot.stamp()

        def answered():
            if not pilot.commands:
                pilot.send(stamp=stamp)  # best effort: it may get lost
            return bool(pilot.commands)

        pilot.wait_for(answered, 'a command')
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            pilot.transition(transition)
        pilot.wait_for(
            lambda: pilot.node.count_publishers('rotor_command') == 0, 'the topics to be closed'
        )
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            pilot.transition(transition)
    finally:
        pilot.close()
        code = stop(process, signal.SIGTERM)
        text = output.read_text()
        print(text)
    assert code == 0
    assert 'Traceback' not in text


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['-p', 'policy.q:=[1.0, 2.0]'], 'policy.q needs 12 values, got 2'),
        (['-p', 'vehicle.mass:=5.0'], 'hover'),
        (['-p', 'model.source:=file', '-p', 'model.file:=/nowhere.npz'], 'nowhere.npz'),
    ],
)
def test_a_configuration_that_cannot_fly_ends_the_start_with_one_sentence(
    tmp_path, arguments, reason
):
    process, output = start_controller(tmp_path, *arguments)
    try:
        assert process.wait(WAIT) == 1
    finally:
        stop(process, signal.SIGKILL)
    text = output.read_text()
    assert reason in text
    assert 'Traceback' not in text
