"""The simulated vehicle's imperfections: off by default, each doing what it says, seeded."""

import math

import numpy as np
import pytest

from hmpc_ros.plant.quadcopter import NX, Quadcopter
from hmpc_ros.plant.vehicle import Imperfections, Vehicle

QUADCOPTER = Quadcopter()
HOVER = QUADCOPTER.hover_input


def fly(vehicle, steps=50, flight=0):
    vehicle.reset(np.zeros(NX), flight)
    states = []
    for k in range(steps):
        vehicle.step(HOVER + 2 * math.sin(k))
        states.append(vehicle.measure())
    return np.array(states)


def test_perfect_vehicle_is_the_quadcopter():
    vehicle = Vehicle(QUADCOPTER)
    u = HOVER + [1.0, -2.0, 3.0, -4.0]
    vehicle.step(u)
    np.testing.assert_array_equal(vehicle.state, QUADCOPTER.step(np.zeros(NX), u))
    np.testing.assert_array_equal(vehicle.measure(), vehicle.state)


def test_input_delay_holds_every_command_back():
    delayed = Vehicle(QUADCOPTER, Imperfections(input_delay_steps=2))
    u = HOVER + 5.0
    for _ in range(2):
        delayed.step(u)
        np.testing.assert_allclose(delayed.state, np.zeros(NX), atol=1e-14)
    delayed.step(u)
    assert delayed.state[5] > 0


def test_motor_lag_approaches_the_command_exponentially():
    tau = 0.1
    lagging = Vehicle(QUADCOPTER, Imperfections(motor_time_constant=tau))
    u = HOVER + 5.0
    lagging.step(u)
    reached = HOVER + 5.0 * (1 - math.exp(-QUADCOPTER.time_step / tau))
    np.testing.assert_allclose(lagging.state, QUADCOPTER.step(np.zeros(NX), reached), atol=1e-15)


def test_wind_pushes_with_its_force():
    windy = Vehicle(QUADCOPTER, Imperfections(wind_force=(0.0, 0.3, 0.0)))
    windy.step(HOVER)
    expected = 0.3 / QUADCOPTER.parameters.mass * QUADCOPTER.time_step
    assert windy.state[4] == pytest.approx(expected)
    np.testing.assert_allclose(np.delete(windy.state, 4), 0, atol=1e-14)


def test_gusts_have_their_standard_deviation_and_correlation_time():
    quadcopter = Quadcopter(time_step=0.1)
    gusty = Vehicle(quadcopter, Imperfections(gust_std=0.2, gust_time_constant=0.5), seed=1)
    gusts = []
    for flight in range(60):
        gusty.reset(np.zeros(NX), flight)
        for _ in range(20):
            gusty.step(HOVER)
        sample = []
        for _ in range(50):
            gusty.step(HOVER)
            sample.append(gusty._gust.copy())
        gusts.append(sample)
    gusts = np.array(gusts)
    assert gusts.std() == pytest.approx(0.2, rel=0.1)
    correlation = (gusts[:, 1:] * gusts[:, :-1]).mean() / (gusts**2).mean()
    assert correlation == pytest.approx(math.exp(-0.1 / 0.5), rel=0.05)


def test_noise_depends_on_seed_and_flight_number_alone():
    noisy = Imperfections(
        gust_std=0.1, process_noise_std=(1e-3,) * NX, measurement_noise_std=(1e-2,) * NX
    )
    first = Vehicle(QUADCOPTER, noisy, seed=7)
    flights = [fly(first, flight=k) for k in (0, 1, 2)]
    other = Vehicle(QUADCOPTER, noisy, seed=7)
    np.testing.assert_array_equal(fly(other, flight=2), flights[2])
    np.testing.assert_array_equal(fly(other, flight=0), flights[0])
    assert np.abs(flights[0] - flights[1]).max() > 1e-3
    assert np.abs(fly(Vehicle(QUADCOPTER, noisy, seed=8)) - flights[0]).max() > 1e-3


def test_a_step_is_measured_once_however_often_it_is_read():
    vehicle = Vehicle(QUADCOPTER, Imperfections(measurement_noise_std=(0.1,) * NX))
    np.testing.assert_array_equal(vehicle.measure(), vehicle.measure())
    assert np.abs(vehicle.measure() - vehicle.state).max() > 0


def test_flights_are_numbered_in_order_unless_told():
    vehicle = Vehicle(QUADCOPTER)
    vehicle.reset(np.zeros(NX))
    assert vehicle.flight == 1
    vehicle.reset(np.zeros(NX), flight=10)
    vehicle.reset(np.zeros(NX))
    assert vehicle.flight == 11


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'motor_time_constant': -1.0}, 'motor_time_constant'),
        ({'wind_force': (1.0, math.inf, 0.0)}, 'wind_force'),
        ({'process_noise_std': (1.0,)}, 'process_noise_std needs 12'),
        ({'gust_std': 1.0, 'gust_time_constant': 0.0}, 'gust_time_constant'),
    ],
)
def test_impossible_imperfections_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Imperfections(**change)


def test_a_state_that_is_not_finite_is_no_start():
    with pytest.raises(ValueError, match='12 finite'):
        Vehicle(QUADCOPTER).reset(np.full(NX, np.nan))
