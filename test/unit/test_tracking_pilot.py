"""The tracking MPC under the safety ladder: where references begin, far goals, refusals."""

import math

import numpy as np
import pytest

from hmpc_ros.plant import presets
from hmpc_ros.plant.reference.curves import circle
from hmpc_ros.plant.reference.headings import Fixed
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase
from hmpc_ros.plant.rigid_body import resting_state
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.policy.flight_controller import FlightController, Reason, Safety, Source
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.pilot import TrackingPilot
from hmpc_ros.policy.tracking.policy import TrackingPolicy, Window

PERIOD = 10_000_000  # ns
SECOND = 1_000_000_000
CENTRE = np.array([0.0, 0.0, 1.0])
PRESET = presets.load('reference')


@pytest.fixture(scope='module')
def policy():
    model, limits = PRESET.model, PRESET.limits
    return TrackingPolicy(
        TrackingParameters(
            drag=np.array(model.drag),
            thrust_lag=np.array([model.thrust_lag]),
            rate_lags=np.array(model.rate_lags),
        ),
        TrackingLimits(limits.a_min, limits.a_max, limits.rates_max),
    )


def a_circle(rate=1.0):
    return Paced(circle(CENTRE, 1.5), Phase(rate, 12.0, 3.0), Fixed(0.0))


def fly(controller, start, seconds, stamp=SECOND, at=None):
    """Fly the vehicle under the controller; return states and sources. ``at``: {step: call}."""
    simulator = FlightSimulator(PRESET, 'model')
    simulator.reset(start, 0)
    states, sources = [simulator.truth()], []
    for k in range(round(100 * seconds)):
        if at and k in at:
            at[k]()
        answer = controller.respond(simulator.measure(), stamp + k * PERIOD)
        sources.append(answer.source)
        simulator.step(answer.command)
        states.append(simulator.truth())
    return np.array(states), sources


def new(policy, reference, begin=None, **safety):
    pilot = TrackingPilot(policy, reference, begin)
    return pilot, FlightController(pilot, Safety(**safety), clock=lambda: 0.0)


def uprightness(states):
    return 1 - 2 * (states[:, 7] ** 2 + states[:, 8] ** 2)


def test_at_the_given_stamp_a_flight_begins_anew_whatever_was_before(policy):
    reference = a_circle()
    start = resting_state(reference.sample(np.zeros(1)).position[0])
    _, controller = new(policy, reference, 5 * SECOND)
    pushed = start.copy()
    pushed[3] = 0.3
    for k in range(50):
        controller.respond(pushed, SECOND + k * PERIOD)
    states, _ = fly(controller, start, 1.5, stamp=5 * SECOND)
    fresh, _ = fly(new(policy, reference)[1], start, 1.5)
    np.testing.assert_allclose(states, fresh, atol=1e-12)


def test_a_reference_begins_anew_at_another_stamp_whatever_was_before(policy):
    reference = a_circle()
    start = resting_state(reference.sample(np.zeros(1)).position[0])
    pilot, controller = new(policy, reference, SECOND)
    first, _ = fly(controller, start, 1.5)
    pilot.begin_at(9 * SECOND)
    waiting = controller.respond(first[-1], 3 * SECOND)
    assert waiting.source is Source.SOLUTION
    again, _ = fly(controller, start, 1.5, stamp=9 * SECOND)
    np.testing.assert_allclose(again, first, atol=1e-12)


def test_until_the_given_stamp_the_vehicle_hovers_where_the_reference_begins(policy):
    reference = a_circle()
    begin = reference.sample(np.zeros(1)).position[0]
    states, _ = fly(new(policy, reference, 1000 * SECOND)[1], resting_state(begin), 2.0)
    assert np.abs(states[:, :3] - begin).max() < 0.02


def test_a_vehicle_elsewhere_gets_to_the_beginning_before_the_path_begins(policy):
    reference = a_circle()
    pilot, controller = new(policy, reference)
    states, _ = fly(controller, resting_state([-3.0, 2.0, 0.5]), 6.0)
    samples = pilot.reference.sample(0.01 * np.arange(len(states)))
    errors = np.linalg.norm(states[:, :3] - samples.position, axis=1)
    assert errors[0] < 1e-9
    assert errors.max() < 0.3
    assert uprightness(states).min() > 0.5


@pytest.mark.parametrize('distance', [2.0, 5.0, 10.0, 100.0])
def test_a_far_goal_is_flown_to_upright_and_without_overshoot(policy, distance):
    pilot, controller = new(policy, Hover(CENTRE))
    goal = CENTRE + distance * np.array([1.0, 0.0, 0.0])
    states, sources = fly(
        controller,
        resting_state(CENTRE),
        4.0 + distance / 4.0,
        at={10: lambda: pilot.go_to(goal, 0.0)},
    )
    along = states[:, 0] / distance
    assert along.max() < 1.05
    assert np.linalg.norm(states[-1, :3] - goal) < 0.05
    assert uprightness(states).min() > math.cos(math.radians(60))
    assert set(sources) == {Source.SOLUTION}


def test_a_goal_that_comes_in_full_flight_brakes_without_a_jump(policy):
    pilot, controller = new(policy, a_circle(1.5))
    start = resting_state(pilot.reference.sample(np.zeros(1)).position[0])
    states, _ = fly(controller, start, 10.0, at={500: lambda: pilot.go_to(CENTRE, 0.0)})
    assert np.linalg.norm(states[500, 3:6]) > 1.0
    assert np.linalg.norm(states[-1, :3] - CENTRE) < 0.05
    assert np.abs(np.diff(states[:, :3], axis=0)).max() < 0.05
    assert uprightness(states).min() > 0.3


def test_a_goal_before_the_first_state_is_where_the_flight_goes(policy):
    pilot, controller = new(policy, a_circle())
    pilot.go_to(CENTRE, 0.0)
    states, _ = fly(controller, resting_state([1.0, 0.0, 1.0]), 3.0)
    assert np.linalg.norm(states[-1, :3] - CENTRE) < 0.05


def test_after_a_gap_the_plan_begins_about_the_reference_and_not_at_the_last_one(policy):
    pilot, controller = new(policy, Hover(CENTRE))
    fly(controller, resting_state([0.09, 0.0, 1.0]), 0.3)
    tumbled = resting_state(CENTRE)
    tumbled[6:10] = math.cos(0.7), math.sin(0.7), 0.0, 0.0
    after = pilot.solve(tumbled, 3 * SECOND)
    policy.reset()
    policy.observer.estimate = after.estimate
    fresh = policy.solve(tumbled, Window(pilot.reference, pilot.time(3 * SECOND)))
    np.testing.assert_allclose(after.input, fresh.input, atol=1e-9)


def test_a_reference_beyond_the_vehicle_is_refused_with_numbers_and_changes_nothing(policy):
    pilot, controller = new(policy, Hover(CENTRE))
    fly(controller, resting_state(CENTRE), 0.1)
    before = pilot.reference
    with pytest.raises(ValueError, match=r'speed \d+\.\d+ m/s \(at most 15\.00\)'):
        pilot.follow(a_circle(rate=20.0))
    assert pilot.reference is before
    assert pilot.follow(a_circle(rate=20.0), 'slow').ok


@pytest.mark.parametrize('axis', [7, 8])
@pytest.mark.parametrize('angle', [-1.2, 0.8, math.pi])
def test_level_hover_turns_the_vehicle_upright(policy, axis, angle):
    pilot, _ = new(policy, Hover(CENTRE))
    start = resting_state(CENTRE)
    start[6], start[axis] = math.cos(angle / 2), math.sin(angle / 2)
    simulator = FlightSimulator(PRESET, 'model')
    simulator.reset(start, 0)
    for _ in range(200):
        simulator.step(pilot.hover(simulator.measure()))
    assert uprightness(simulator.truth()[None]) > math.cos(math.radians(3))


def test_the_fallback_of_a_failed_solve_is_what_the_observer_reckons_with(policy):
    _, controller = new(policy, Hover(CENTRE))
    fly(controller, resting_state(CENTRE), 0.5)
    answer = controller.respond(resting_state([1e200, 0.0, 1.0]), SECOND + 50 * PERIOD)
    assert (answer.source, answer.reason) == (Source.PLAN, Reason.SOLVE_FAILED)
    np.testing.assert_array_equal(policy._command, answer.command)


def test_what_answers_no_state_is_not_taken_for_flown(policy):
    now = [0.0]
    pilot = TrackingPilot(policy, Hover(CENTRE))
    controller = FlightController(pilot, Safety(state_timeout=0.2), clock=lambda: now[0])
    answer = controller.respond(resting_state([0.05, 0.0, 1.0]), SECOND)
    now[0] = 0.3
    fallback = controller.tick()
    assert (fallback.source, fallback.reason) == (Source.PLAN, Reason.STATE_TIMEOUT)
    np.testing.assert_array_equal(policy._command, answer.command)


def test_whatever_comes_in_commands_are_finite_and_inside_the_limits(policy):
    _, controller = new(policy, Hover(CENTRE), max_hover_steps=1000)
    rng = np.random.default_rng(3)
    scales = [0.1, 1.0, 1e2, 1e5, 1e8, 1e160, math.nan]
    sources = set()
    for k in range(200):
        state = rng.normal(size=13) * scales[rng.integers(len(scales))]
        q = rng.normal(size=4)
        state[6:10] = q / np.linalg.norm(q)
        answer = controller.respond(state, SECOND + k * PERIOD)
        sources.add(answer.source)
        if answer.command is not None:
            low, high = policy.limits.input_min, policy.limits.input_max
            assert np.all((answer.command >= low) & (answer.command <= high))
    assert {Source.SOLUTION, Source.HOVER} <= sources


def test_a_restarted_simulator_begins_the_reference_anew_also_when_it_is_heard_of_late(policy):
    reference = a_circle()
    pilot, controller = new(policy, reference)
    start = resting_state(reference.sample(np.zeros(1)).position[0])
    first, _ = fly(controller, start, 1.0)
    restarted = SECOND + 10 * SECOND
    pilot.restart(restarted)
    again, _ = fly(controller, start, 1.0, stamp=restarted)
    np.testing.assert_allclose(again, first, atol=1e-12)
    # Heard of after a state has been answered: the reference's time is the stamps' all the same.
    late = restarted + 10 * SECOND
    fly(controller, start, 1.0, stamp=late, at={1: lambda: pilot.restart(late)})
    assert pilot.time(late + 5 * PERIOD) == pytest.approx(0.05)
