import numpy as np
import pytest
from scipy.signal import lfilter

from hmpc_ros.plant import presets
from hmpc_ros.plant.grey_box import NAMES, SLICES, GreyBox
from hmpc_ros.plant.grey_box_fit import Recording, fit, unexplained
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.plant.simulators.grey_box_simulator import GreyBoxSimulator
from hmpc_ros.policy.tracking import flying
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy

STEPS = 800
SENSORS = {
    'position_noise_std': 0.01,
    'velocity_noise_std': 0.02,
    'attitude_noise_std': np.radians(0.5),
    'rates_noise_std': 0.05,
}


def flown(simulator, path=None, steps=STEPS):
    preset = simulator.preset
    limits, model = preset.limits, preset.model
    parameters = TrackingParameters(
        drag=model.drag, thrust_lag=model.thrust_lag, rate_lags=model.rate_lags
    )
    policy = TrackingPolicy(
        parameters, TrackingLimits(limits.a_min, limits.a_max, limits.rates_max)
    )
    path = path or make('lissajous', {})
    flight = flying.fly(simulator, policy, path, steps, flight_number=0, keep_solutions=False)
    return Recording(flight.times, flight.measured, flight.inputs)


def assumed(preset):
    model = preset.model
    return GreyBox(1.0, model.drag, (0, 0, 0), model.thrust_lag, model.rate_lags)


def test_a_grey_box_in_flight_is_found_again_to_the_digits():
    preset = presets.load('reference')
    truth = GreyBox(
        0.87, (0.4, 0.3, 0.2), (0.3, -0.2, 0.1), 0.04, (0.09, 0.11, 0.15), (0.25, 0.1, 0.5), 0.017
    )
    found = fit([flown(GreyBoxSimulator(truth, preset))], assumed(preset))
    assert np.abs(found.box.vector - truth.vector).max() < 2e-3
    assert found.told.all()


def test_standard_errors_tell_how_far_noise_leads_astray():
    preset = presets.load('reference')
    truth = GreyBox(0.87, (0.4, 0.3, 0.3), (0.3, -0.2, 0.1), 0.04, delay=0.02)
    noise = np.repeat([*SENSORS.values()], 3)
    found = fit([flown(GreyBoxSimulator(truth, preset, noise=noise, seed=4))], assumed(preset))
    wrong = np.abs(found.box.vector - truth.vector)
    assert np.all(wrong[found.told] < 4 * found.standard_errors[found.told])
    thrust = SLICES['thrust_gain']
    assert wrong[thrust] < 0.01
    assert found.standard_errors[thrust] < 0.01


def test_standard_errors_cover_the_truth_when_forces_act_that_have_no_name():
    preset = presets.load('crazyflie')
    noise = np.repeat([*SENSORS.values()], 3)
    within = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = GreyBox(
            rng.uniform(0.75, 1.1),
            tuple(np.array(preset.model.drag) * rng.uniform(0.5, 3, 3)),
            tuple(rng.normal(0, 0.3, 3)),
            rng.uniform(0.03, 0.09),
            tuple(rng.uniform(0.06, 0.15, 3)),
            tuple(rng.uniform(0.05, 0.5, 3)),
            rng.uniform(0, 0.03),
        )
        forget = np.exp(-0.01 / 0.7)  # gusts of 0.7 s and 0.3 m/s^2
        gusts = lfilter([1], [1, -forget], rng.standard_normal((STEPS, 3)), axis=0)
        gusts *= 0.3 * np.sqrt(1 - forget**2)
        for sensed in (None, noise):
            simulator = GreyBoxSimulator(truth, preset, noise=sensed, forces=gusts, seed=seed)
            found = fit([flown(simulator)], assumed(preset))
            wrong = np.abs(found.box.vector - truth.vector) / found.standard_errors
            within += (wrong[found.told] <= 3).tolist()
    assert np.mean(within) > 0.9


@pytest.mark.parametrize('backend', ['model', 'rotorpy'])
def test_a_vehicle_is_recognised_through_sensor_noise(backend):
    preset = presets.load('px4_sih')
    conditions = Conditions(mass_scale=1.2, drag_scale=3.0, delay=0.02, **SENSORS)
    simulator = FlightSimulator(preset, backend, 0.01, conditions, 3)
    found = fit([flown(simulator)], assumed(preset)).box
    # Rotors that shake after noise lose thrust: the mean of a lagged speed, squared.
    assert found.thrust_gain == pytest.approx(1 / 1.2, abs=0.02)
    assert found.drag[:2] == pytest.approx(np.array(preset.model.drag[:2]) * 3 / 1.2, abs=0.03)
    assert found.thrust_lag == pytest.approx(preset.model.thrust_lag, abs=0.02)
    # The rate loop places two poles at 20 rad/s; lag and delay are told together.
    assert np.array(found.rate_lags[:2]) + found.delay == pytest.approx(0.12, abs=0.012)
    assert found.disturbance[:2] == pytest.approx((0, 0), abs=0.1)


def test_two_flights_tell_more_than_one():
    preset = presets.load('reference')
    simulator = FlightSimulator(preset, 'model', 0.01, Conditions(**SENSORS))
    one = flown(simulator)
    two = flown(simulator, make('circle', {'rate': 1.2}))
    alone, both = fit([one], assumed(preset)), fit([one, two], assumed(preset))
    drag = SLICES['drag']
    assert np.all(both.standard_errors[drag] < alone.standard_errors[drag])


def test_what_a_hover_does_not_tell_stays_as_assumed():
    preset = presets.load('reference')
    simulator = FlightSimulator(preset, 'model', 0.01, Conditions(mass_scale=1.1, **SENSORS))
    prior = assumed(preset)
    found = fit([flown(simulator, make('hover', {}), 400)], prior)
    told = found.as_dict()
    assert not told['drag.x']['told']
    assert not told['drag.z']['told']
    assert told['drag.x']['estimate'] == prior.drag[0]
    assert list(told) == list(NAMES)


def test_what_no_number_explains_is_seen_where_it_acts():
    preset = presets.load('reference')
    h, n = 0.01, 600
    gust = np.zeros((n, 3))
    gust[:, 1] = 0.5 * np.sin(2 * np.pi * 0.7 * h * np.arange(n))
    box = GreyBox(0.9, (0.4, 0.3, 0.3))
    flight = flown(GreyBoxSimulator(box, preset, forces=gust), steps=n)
    found = unexplained(flight, box)
    assert np.abs(found - gust)[50:-50].max() < 0.03


def test_a_drawn_vehicle_is_one_that_may_be():
    preset = presets.load('reference')
    simulator = FlightSimulator(preset, 'model', 0.01, Conditions(**SENSORS))
    found = fit([flown(simulator, steps=400)], assumed(preset))
    rng = np.random.default_rng(0)
    drawn = np.array([found.draw(rng).vector for _ in range(300)])
    spread = drawn[:, SLICES['thrust_gain']].std()
    assert spread == pytest.approx(float(found.standard_errors[0]), rel=0.2)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'times': np.arange(301.0) ** 2}, 'evenly'),
        ({'states': np.full((301, 13), np.nan)}, 'finite'),
        ({'commands': np.zeros((300, 3))}, 'commands'),
        ({'times': np.arange(12.0)}, 'times'),
    ],
)
def test_a_recording_that_tells_nothing_is_refused(change, said):
    good = {
        'times': 0.01 * np.arange(301),
        'states': np.zeros((301, 13)),
        'commands': np.zeros((300, 4)),
    }
    Recording(**good)
    with pytest.raises(ValueError, match=said):
        Recording(**{**good, **change})


def test_a_short_flight_and_no_flight_are_refused():
    with pytest.raises(ValueError, match='shorter'):
        Recording(0.01 * np.arange(101), np.zeros((101, 13)), np.zeros((100, 4)))
    with pytest.raises(ValueError, match='no flight'):
        fit([])


def test_a_grey_box_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r'thrust_lag = 9.* within'):
        GreyBox(thrust_lag=9.0)
