from dataclasses import replace

import numpy as np
import pytest

from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.requests import NOMINAL, Evaluation, FlightRequest
from hmpc_ros.learning.safety import Envelope, Safeguard
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

SPACE = ParameterSpace((Block('x', (1,), -10.0, 10.0),))


def flight(states):
    states = np.asarray(states, float)
    return Flight(states, np.zeros((len(states) - 1, 4)), Goal((1, 0, 0)), np.zeros(4))


def test_a_flight_is_cut_at_the_state_that_leaves_the_envelope():
    states = np.zeros((6, 12))
    states[3, 0] = 4.0  # 3 m from the goal
    whole = replace(flight(states), failed_steps=(1, 4))
    cut = Envelope(position=2.5).cut(whole)
    assert cut.steps == 3
    assert cut.failed_steps == (1,)
    assert not cut.complete
    assert cut.ended == ('cut short at step 3: 3.00 m from the goal, beyond the envelope of 2.5 m')


def test_a_flight_inside_the_envelope_is_left_alone():
    whole = flight(np.zeros((6, 12)))
    assert Envelope(2.0, 0.5).cut(whole) is whole


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_outside_every_envelope(value):
    states = np.zeros((4, 12))
    states[2, 11] = value
    assert Envelope().cut(flight(states)).steps == 2


def test_tilt_counts_and_yaw_does_not():
    deviation = np.zeros(12)
    deviation[8] = 3.0
    assert Envelope(attitude=0.5).breach(deviation) == ''
    deviation[7] = -0.6
    assert 'tilted by 0.60 rad' in Envelope(attitude=0.5).breach(deviation)


def evaluation(J, V=0.0, theta=0.0, ended=''):
    base = flight(np.zeros((2, 12)))
    flown = Flight(base.states, base.inputs, base.goal, base.hover_input, ended=ended)
    request = FlightRequest(Parameters(SPACE, np.full(1, theta)), NOMINAL)
    return Evaluation(request, flown, Outcome(J, V, J))


def test_a_rise_within_the_margin_is_kept_and_one_beyond_goes_back():
    guard = Safeguard(margin=0.05, shrink=0.5)
    reason, memory = guard.judge(evaluation(100.0, theta=1.0), {})
    assert reason == ''
    reason, memory = guard.judge(evaluation(104.0, theta=2.0), memory)
    assert reason == ''
    assert memory['best_J'] == 100.0
    assert memory['accepted_theta'][0] == 2.0
    reason, memory = guard.judge(evaluation(106.0, theta=3.0), memory)
    assert '5 % above the best' in reason
    assert memory['accepted_theta'][0] == 2.0
    assert memory['step_scale'] == 0.5


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        (evaluation(np.inf), 'not whole or not finite'),
        (evaluation(np.inf, ended='cut short at step 9'), 'cut short at step 9'),
        (evaluation(1.0, V=3.0), 'violation 3 exceeds 2'),
    ],
)
def test_what_is_not_acceptable_is_refused_with_the_reason(bad, words):
    reason, memory = Safeguard(violation=2.0).judge(bad, {})
    assert words in reason
    assert 'accepted_theta' not in memory


def test_without_a_margin_only_unflyable_weights_go_back():
    guard = Safeguard(margin=np.inf)
    _, memory = guard.judge(evaluation(1.0), {})
    assert guard.judge(evaluation(1e6), memory)[0] == ''


@pytest.mark.parametrize(
    'make',
    [
        lambda: Safeguard(margin=-0.1),
        lambda: Safeguard(violation=np.nan),
        lambda: Safeguard(shrink=0.0),
        lambda: Envelope(position=0.0),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(ValueError, match='must'):
        make()


def test_a_flight_is_cut_where_its_violation_so_far_is_too_much():
    states = np.zeros((6, 12))
    states[1:, 9] = 0.5  # 0.1 beyond its bound at every step
    envelope = Envelope(violation=0.25, state_max=(1.0,) * 6 + (0.4,) * 3)
    cut = envelope.cut(flight(states))
    assert cut.steps == 3
    assert cut.ended == 'cut short at step 3: a violation of 0.3, beyond the envelope of 0.25'
    assert Envelope(violation=0.6, state_max=envelope.state_max).cut(flight(states)).complete
