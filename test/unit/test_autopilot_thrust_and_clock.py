"""Throttle from thrust, and an autopilot's stamps on our clock."""

import itertools
import math
import random

import pytest

from hmpc_ros.autopilots.clock import AutopilotClock
from hmpc_ros.autopilots.thrust import GRAVITY, HoverMeasurement, ThrustMap


def test_answers_of_the_autopilot_take_the_way_of_a_message_out_of_its_age():
    clock, offset = AutopilotClock(), 1000.0
    for k in range(200):  # each message 30 ms on its way: without answers, that much too young
        stamp = 0.01 * k
        assert clock.time(stamp, offset + stamp + 0.03) - stamp == pytest.approx(offset + 0.03)
    assert math.isnan(clock.round_trip)
    for trip in (0.02, 0.004, 0.05):  # the shortest is gone by, there and back alike
        clock.answered(offset + 2.0, 2.0 + trip / 2, offset + 2.0 + trip)
    assert clock.round_trip == pytest.approx(0.004)
    clock = AutopilotClock()
    clock.answered(offset, 0.002, offset + 0.004)
    assert clock.time(0.01, offset + 0.04) == pytest.approx(offset + 0.01)
    # Never after it came, whatever an answer says.
    clock.answered(offset, -5.0, offset + 0.001)
    assert clock.time(0.02, offset + 0.03) <= offset + 0.03
    # Answers grow old: messages alone tell again.
    clock.time(11.0, offset + 11.03)
    assert math.isnan(clock.round_trip)


def test_a_hover_is_a_hover_and_the_ends_hold():
    thrust = ThrustMap(0.49)
    assert thrust.throttle(GRAVITY) == pytest.approx(0.49)
    assert thrust.throttle(0.5 * GRAVITY) == pytest.approx(0.245)
    assert thrust.throttle(-1.0) == 0.0
    assert thrust.throttle(100.0) == 1.0
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match='cannot be flown'):
            thrust.throttle(bad)
    for bad in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match='hover throttle'):
            ThrustMap(bad)


def test_a_weaker_battery_gets_more_throttle_where_asked():
    thrust = ThrustMap(0.4, voltage=16.0, exponent=2.0)
    assert thrust.throttle(GRAVITY, 14.4) == pytest.approx(0.4 * (16.0 / 14.4) ** 2)
    assert thrust.throttle(GRAVITY) == pytest.approx(0.4)  # not told: not compensated
    assert ThrustMap(0.4, 16.0).throttle(GRAVITY, 14.4) == pytest.approx(0.4)


def test_the_hover_throttle_is_measured_in_a_quiet_hover_only():
    hover = HoverMeasurement(seconds=3.0)
    noise = random.Random(1)
    for k in range(80):
        assert hover.result() is None or k * 0.05 >= 3.0
        hover.add(k * 0.05, 0.49 + noise.gauss(0, 0.01), 0.1, 0.02, 16.0)
    assert hover.result(2.0).hover == pytest.approx(0.49, abs=0.005)
    assert hover.result(2.0).voltage == pytest.approx(16.0)
    hover.add(4.0, 0.49, 1.0, 0.0)  # it flies off
    assert hover.result() is None


def test_stamps_come_by_our_clock_whatever_the_way_took():
    clock = AutopilotClock()
    delay = random.Random(2)
    times = []
    for k in range(300):
        true = 1000.0 + 0.01 * k  # our clock; the autopilot's began at 990
        times.append(clock.time(true - 990.0, true + 0.002 + delay.expovariate(200.0)) - true)
    assert max(times[50:]) - min(times[50:]) < 5e-4
    assert min(times) > 0.0019


def test_a_restarted_autopilot_has_a_clock_of_its_own():
    clock = AutopilotClock()
    for k in range(100):
        clock.time(500.0 + 0.01 * k, 0.01 * k)
    assert clock.time(1.0, 5.0) == pytest.approx(5.0)
    assert clock.time(1.01, 5.01) == pytest.approx(5.01)
    assert clock.time(9.0, 5.02) == pytest.approx(5.02)  # its clock was set


def test_stamps_never_go_back_when_a_faster_message_comes():
    clock = AutopilotClock()
    told = [clock.time(0.01 * k, 5.0 + 0.01 * k + (0.05 if k < 20 else 0.0)) for k in range(40)]
    assert all(later >= earlier for earlier, later in itertools.pairwise(told))
    assert told[-1] == pytest.approx(5.39)
