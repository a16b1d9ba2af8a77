"""Weights on trial go by themselves."""

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.trial_lease import LEASE, TrialLease

TABLE = {name: CONTROLLER[name] for name in CONTROLLER if name.startswith(('policy.', 'goal.'))}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Controller:
    def __init__(self, context):
        self.node = Node('controller', context=context)
        self.applied = []
        NodeParameters(
            self.node, TABLE, lambda values: list(values['policy.q']), self.applied.append
        )
        self.clock = Clock()
        self.lease = TrialLease(self.node, self.clock)

    def set(self, **values):
        return self.node.set_parameters_atomically(
            [RosParameter(f'policy.{name}', value=value) for name, value in values.items()]
        )

    def after(self, seconds: float):
        self.clock.now += seconds
        self.lease.check()
        return self.q, self.node.get_parameter(LEASE).value

    @property
    def q(self):
        return self.node.get_parameter('policy.q').value[0]


@pytest.fixture
def controller():
    context = rclpy.Context()
    rclpy.init(context=context)
    controller = Controller(context)
    yield controller
    controller.node.destroy_node()
    context.try_shutdown()


def q(value):
    return [float(value)] * 12


def whole(value, lease):
    """All that a lender names: weights that differ in q, and the lease."""
    others = {'r': [0.1] * 4, 'p': [0.5] * 78, 'slack': [25.0] * 18, 'model': [0.0] * 204}
    return {'q': q(value), **others, 'lease': lease}


def test_weights_without_a_lease_stay(controller):
    assert controller.set(q=q(2)).successful
    assert controller.after(1e6) == (2.0, 0.0)


def test_weights_on_trial_go_when_their_time_is_over_in_flight_and_in_the_parameters(controller):
    controller.set(q=q(2))
    controller.set(q=q(3), p=[0.5] * 78, lease=2.0)
    assert controller.after(1.9) == (3.0, 2.0)
    assert controller.after(0.2) == (2.0, 0.0)
    assert controller.applied[-1] == q(2)
    assert list(controller.node.get_parameter('policy.p').value) == []


def test_every_word_renews_the_lease_also_with_the_same_values(controller):
    controller.set(q=q(3), lease=2.0)
    for _ in range(5):
        assert controller.after(1.9) == (3.0, 2.0)
        assert controller.set(**whole(3, 2.0)).successful


def test_other_parameters_do_not_renew_it(controller):
    controller.set(q=q(3), lease=2.0)
    controller.clock.now += 1.5
    assert controller.node.set_parameters_atomically(
        [RosParameter('goal.yaw', value=0.5)]
    ).successful
    assert controller.after(1.0) == (1.0, 0.0)
    assert controller.node.get_parameter('goal.yaw').value == 0.5


def test_a_trial_that_is_kept_is_what_later_trials_go_back_to(controller):
    controller.set(q=q(3), lease=2.0)
    controller.set(**whole(3, 0.0))
    assert controller.after(100.0) == (3.0, 0.0)
    controller.set(q=q(4), lease=2.0)
    assert controller.after(2.1) == (3.0, 0.0)


def test_weights_set_by_hand_during_a_trial_are_refused_in_words(controller):
    controller.set(q=q(3), lease=2.0)
    result = controller.set(q=q(9))
    assert not result.successful
    assert 'the present weights are on trial for another 2.0 s: stop the learner' in result.reason
    assert controller.q == 3.0
    assert controller.set(**whole(9, 0.0)).successful
    assert controller.after(100.0) == (9.0, 0.0)


@pytest.mark.parametrize(
    'request_',
    [{'lease': 0.0}, {'lease': 3600.0}, {'q': q(3), 'lease': 0.0}, {'q': q(3), 'lease': 60.0}],
)
def test_nobody_keeps_or_prolongs_a_trial_without_naming_all_its_weights(controller, request_):
    controller.set(q=q(2))
    controller.set(q=q(3), lease=2.0)
    result = controller.set(**request_)
    assert not result.successful
    named = 'policy.q, policy.r, policy.p, policy.slack, policy.model and policy.lease in one'
    assert named in result.reason
    assert controller.after(1.9) == (3.0, 2.0)
    assert controller.after(0.2) == (2.0, 0.0)


def test_between_its_end_and_the_next_check_a_trial_takes_nothing_that_it_would_undo(controller):
    controller.set(q=q(3), lease=2.0)
    controller.clock.now += 2.05
    assert not controller.set(q=q(9)).successful
    controller.lease.check()
    assert controller.set(q=q(9)).successful
    assert controller.after(100.0) == (9.0, 0.0)


def test_a_lease_without_weights_lends_nothing(controller):
    result = controller.set(lease=2.0)
    assert not result.successful
    assert 'lends the weights that are set in the same request' in result.reason
    assert controller.set(lease=0.0).successful
    assert controller.set(q=q(9)).successful


def test_a_refused_trial_changes_neither_weights_nor_lease(controller):
    controller.set(q=q(3), lease=2.0)
    controller.clock.now += 1.0
    result = controller.set(**{**whole(3, 50.0), 'q': [float('nan')] * 12})
    assert not result.successful
    assert 'policy.q must be finite' in result.reason
    assert controller.lease.remaining == pytest.approx(1.0)
    assert controller.after(1.1) == (1.0, 0.0)
