"""crazyflow's drone behind the one protocol of simulators; `make test-crazyflow` runs this."""

import json

import numpy as np
import pytest

from hmpc_ros.cli import main
from hmpc_ros.plant import presets
from hmpc_ros.plant.rigid_body import RATES, VELOCITY, resting_state
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.plant.winds import Wind

pytestmark = pytest.mark.crazyflow

HOVER = np.array([9.81, 0.0, 0.0, 0.0])
START = resting_state(np.array([0.0, 0.0, 1.0]))


def flown(steps, command=HOVER, **conditions):
    simulator = FlightSimulator(presets.load('cf21b'), 'crazyflow', 0.01, Conditions(**conditions))
    simulator.reset(START, 0)
    return np.array([(simulator.step(command), simulator.truth())[1] for _ in range(steps)])


def test_it_hovers_and_follows_its_rates_as_the_preset_says():
    np.testing.assert_allclose(flown(100)[-1], START, atol=1e-9)
    for axis, lag in enumerate(presets.load('cf21b').model.rate_lags):
        command = HOVER.copy()
        command[1 + axis] = 0.5
        made = flown(100, command)[:, RATES][:, axis] / 0.5
        assert made[-1] == pytest.approx(1.0, abs=0.04)
        assert 0.01 * np.sum(1 - made) == pytest.approx(lag, rel=0.35)


def test_our_model_of_it_flies_the_same_for_a_while():
    preset, command = presets.load('cf21b'), np.array([11.0, 0.6, -0.4, 0.3])
    simulator = FlightSimulator(preset, 'model')
    simulator.reset(START, 0)
    ours = np.array([(simulator.step(command), simulator.truth())[1] for _ in range(50)])
    np.testing.assert_allclose(flown(50, command)[:, :3], ours[:, :3], atol=0.02)
    assert np.abs(ours[-1, :3] - START[:3]).max() > 0.1


def test_the_truth_differs_as_the_conditions_say():
    assert flown(100, mass_scale=1.2)[-1, 2] < 0.4
    assert flown(50, thrust_scale=1.2)[-1, 2] > 1.15
    blown = flown(100, wind=Wind(kind='constant', mean=(0.0, 3.0, 0.0)))[:, VELOCITY]
    assert 0.8 < blown[-1, 1] < 3.0
    assert flown(100, battery_sag=0.1)[-1, 2] < 0.95
    np.testing.assert_array_equal(flown(20, thrust_scale=1.1), flown(20, thrust_scale=1.1))


def test_another_vehicle_and_another_physics_are_told_apart():
    with pytest.raises(ValueError, match='use the preset cf21b'):
        FlightSimulator(presets.load('crazyflie'), 'crazyflow')


def test_the_eight_at_two_metres_a_second_is_followed_within_five_centimetres(tmp_path):
    words = ['fly', '--offline', '--config', 'tracking', '--out', str(tmp_path)]
    for value in (
        'simulator.backend=crazyflow',
        'simulator.preset=cf21b',
        'controller.reference.kind=gerono',
        'controller.reference.rate=1.38',
    ):
        words += ['--set', value]
    assert main.main(words) == 0
    result = json.loads((tmp_path / 'flight.json').read_text())
    with np.load(tmp_path / 'flight.npz') as arrays:
        steady = (arrays['times'] > 3.0) & (arrays['times'] < 12.0)
        speed = np.linalg.norm(arrays['reference_velocity'][steady], axis=1).mean()
    assert speed == pytest.approx(2.0, abs=0.1)
    assert result['tracking.rmse_m'] < 0.05
    assert result['failures'] == 0
