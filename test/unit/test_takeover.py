"""The take-over: only when asked, only inside its gates, and back by itself but never again."""

import math
from dataclasses import replace

import pytest

from hmpc_ros.autopilots.takeover import Gates, Orders, Phase, Request, Situation, TakeOver

GATES = Gates(engage_timeout=1.0, hand_back_timeout=1.0)
HOVER = Situation(
    connected=True,
    armed=True,
    mode='position',
    state_age=0.01,
    position=(0.0, 0.0, 2.0),
    good_age=0.01,
    good_steps=100,
    distance=0.1,
    battery=0.9,
)


class Flight:
    """A take-over and the situation it is in, 20 ms a step."""

    def __init__(self, gates: Gates = GATES):
        self.takeover = TakeOver(gates, lead=0.5)
        self.situation = HOVER
        self.step()

    def step(self, seconds: float = 0.02, **changes) -> list[Orders]:
        """Return the orders of some steps, after a change of the situation."""
        self.situation = replace(self.situation, **changes)
        orders = []
        for _ in range(max(1, round(seconds / 0.02))):
            self.situation.time += 0.02
            orders.append(self.takeover.update(self.situation))
        return orders

    def engage(self) -> 'Flight':
        assert self.takeover.engage(self.situation) == ''
        self.step(0.6)
        self.step(mode='offboard', external=True)
        assert self.takeover.phase is Phase.TAKEN_OVER
        return self


def requests(orders) -> list[Request]:
    return [order.request for order in orders if order.request]


def test_it_takes_over_only_when_asked_and_streams_before_it_asks_for_the_mode():
    flight = Flight()
    assert flight.takeover.phase is Phase.READY
    assert flight.step(10.0) == [Orders()] * 500
    assert flight.takeover.engage(flight.situation) == ''
    orders = flight.step(0.7)
    assert all(order.setpoints and order.heartbeat for order in orders)
    assert requests(orders) == [Request.TAKE]
    assert [order.request for order in orders].index(Request.TAKE) == pytest.approx(25, abs=1)
    flight.step(mode='offboard', external=True)
    assert flight.takeover.phase is Phase.TAKEN_OVER
    assert flight.step(1.0) == [Orders(True, True)] * 50


def test_set_points_can_be_kept_from_an_autopilot_that_obeys_them_in_any_mode():
    flight = Flight()
    flight.takeover = TakeOver(GATES, lead=0.5, setpoints_lead=False)
    flight.step()
    flight.takeover.engage(flight.situation)
    orders = flight.step(0.7)
    asked = [order.request for order in orders].index(Request.TAKE)
    assert [order.setpoints for order in orders] == [k >= asked for k in range(len(orders))]
    assert all(order.heartbeat for order in orders)


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        ({'connected': False}, 'nothing is heard'),
        ({'position': None}, 'no state yet'),
        ({'armed': False}, 'not armed'),
        ({'external': True, 'mode': 'offboard'}, 'another program'),
        ({'thrust': 'the hover throttle is not known'}, 'hover throttle'),
        ({'good_steps': 3}, 'good_steps'),
        ({'distance': math.nan}, 'reference_path'),
        ({'distance': 0.6}, 'start_distance'),
        ({'velocity': (0.5, 0.5, 0.0)}, 'start_speed'),
        ({'state_age': 0.3}, 'state_timeout'),
        ({'estimate': 'the position is not finite'}, 'not finite'),
        ({'failsafe': True}, 'failsafe'),
        ({'position': (0.0, 11.0, 2.0)}, 'geofence'),
        ({'position': (math.nan, 0.0, 2.0)}, 'geofence'),
        ({'tilt': 1.1}, 'max_tilt'),
        ({'battery': 0.2}, 'battery_min'),
        ({'battery': math.nan}, 'battery_min'),
    ],
)
def test_a_closed_gate_is_said_in_a_sentence_and_nothing_is_sent(change, word):
    flight = Flight()
    flight.step(**change)
    assert flight.takeover.phase is Phase.WAITING
    assert word in flight.takeover.engage(flight.situation)
    assert flight.step(2.0) == [Orders()] * 100


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        ({'good_age': 0.21}, 'solve_timeout'),
        ({'state_age': 0.3}, 'state_timeout'),
        ({'estimate': 'the position is not finite'}, 'not finite'),
        ({'failsafe': True}, 'failsafe'),
        ({'resets': 1}, 'reset'),
        ({'position': (0.0, 0.0, 0.2)}, 'geofence'),
        ({'velocity': (0.0, 5.1, 0.0)}, 'max_speed'),
        ({'tilt': 1.1}, 'max_tilt'),
        ({'distance': 2.1}, 'max_distance'),
        ({'battery': 0.2}, 'battery_min'),
    ],
)
def test_a_broken_bound_hands_back_and_nothing_re_engages(change, word):
    flight = Flight().engage()
    orders = flight.step(0.1, **change)
    assert flight.takeover.phase is Phase.HANDING_BACK
    assert word in flight.takeover.why
    assert requests(orders) == [Request.HOLD]
    flight.step(mode='hold', external=False)
    flight.step(1.0)
    was = {name: getattr(HOVER, name) for name in change}
    assert flight.step(10.0, **was) == [Orders()] * 500
    assert flight.takeover.phase is Phase.READY
    assert word in flight.takeover.why  # what happened is still told


def test_the_heartbeat_ends_with_the_good_solves():
    flight = Flight().engage()
    for change in ({'good_age': 0.21}, {'state_age': 0.21}):
        orders = flight.step(0.1, **change)
        assert not any(order.heartbeat or order.setpoints for order in orders)
        flight = Flight().engage()


def test_handing_back_on_request_flies_on_until_the_autopilot_has_it():
    flight = Flight().engage()
    assert flight.takeover.hand_back(flight.situation) == ''
    orders = flight.step(0.9)
    assert requests(orders) == [Request.HOLD] * 2
    assert all(order.heartbeat for order in orders)
    orders = flight.step(1.0)  # the autopilot does not listen: its own failsafe is left to act
    assert not orders[-1].heartbeat
    assert not orders[-1].setpoints
    assert Request.HOLD in requests(orders)
    flight.step(mode='hold', external=False)
    flight.step(1.0)
    assert flight.takeover.phase is Phase.READY


def test_the_pilot_has_it_at_once_and_is_not_asked_to_hold():
    flight = Flight().engage()
    assert flight.step(1.0, mode='position', external=False) == [Orders()] * 50
    assert 'pilot' in flight.takeover.why
    assert 'hand back' in flight.takeover.hand_back(flight.situation)


def test_another_mode_or_a_mode_that_never_comes_ends_the_engaging():
    flight = Flight()
    flight.takeover.engage(flight.situation)
    flight.step(0.1)
    assert flight.step(2.0, mode='land') == [Orders()] * 100
    flight.step(mode='position')

    assert flight.takeover.engage(flight.situation) == ''
    orders = flight.step(3.0)
    assert requests(orders) == [Request.TAKE] * 2
    assert orders[-1] == Orders()
    assert 'stayed in position' in flight.takeover.why


def test_a_mode_that_comes_too_late_is_given_back():
    flight = Flight()
    flight.takeover.engage(flight.situation)
    flight.step(1.52)
    assert flight.takeover.phase is Phase.HANDING_BACK
    orders = flight.step(0.6, mode='offboard', external=True)
    assert Request.HOLD in requests(orders)


def test_disarming_and_the_end_of_the_flight_time_end_it():
    flight = Flight().engage()
    assert flight.step(1.0, armed=False) == [Orders()] * 50
    assert 'disarmed' in flight.takeover.why
    flight = Flight(replace(GATES, flight_time=3.0)).engage()
    flight.step(2.9)
    assert flight.takeover.phase is Phase.TAKEN_OVER
    flight.step(0.2)
    assert 'flight_time' in flight.takeover.why


def test_a_fence_without_an_inside_is_refused():
    with pytest.raises(ValueError, match='fence_low'):
        Gates(fence_low=[0.0, 0.0, 3.0], fence_high=[1.0, 1.0, 2.0])
