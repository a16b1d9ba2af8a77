"""Vehicles under thrust and body rates: autopilot, physics that agree, conditions, seeds."""

import math
import pickle

import numpy as np
import pytest

from hmpc_ros.plant import presets
from hmpc_ros.plant.airframe import Airframe, frame_positions
from hmpc_ros.plant.autopilot import Autopilot, Mixer
from hmpc_ros.plant.rigid_body import (
    GRAVITY,
    POSITION,
    RATES,
    attitude_error,
    difference,
    multiply,
    resting_state,
    retract,
    rotation_matrix,
)
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.plant.simulators.rotorpy_physics import RotorpyPhysics
from hmpc_ros.plant.winds import Wind, WindSource

HOVER = np.array([GRAVITY, 0.0, 0.0, 0.0])


def fly(simulator, steps=50, flight=0, u=HOVER):
    simulator.reset(resting_state(), flight)
    states = []
    for k in range(steps):
        simulator.step(u + [math.sin(0.3 * k), math.sin(0.2 * k), math.cos(0.2 * k) - 0.7, 0.1])
        states.append(simulator.measure())
    return np.array(states)


def unit(rng, *shape):
    q = rng.standard_normal((*shape, 4))
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def test_retract_is_the_inverse_of_difference():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 30, 13))
    a[:, 6:10], b[:, 6:10] = unit(rng, 30), unit(rng, 30)
    back = retract(a, difference(b, a))
    np.testing.assert_allclose(np.delete(back, np.s_[6:10], 1), np.delete(b, np.s_[6:10], 1))
    np.testing.assert_allclose(
        rotation_matrix(back[:, 6:10]), rotation_matrix(b[:, 6:10]), atol=1e-12
    )
    small = np.array([0.02, -0.01, 0.03])
    turned = retract(resting_state(yaw=1.0), np.concatenate([np.zeros(6), small, np.zeros(3)]))
    np.testing.assert_allclose(attitude_error(turned[6:10], resting_state(yaw=1.0)[6:10]), small)


def test_products_of_quaternions_turn_like_products_of_matrices():
    a, b = unit(np.random.default_rng(2), 2, 20)
    np.testing.assert_allclose(
        rotation_matrix(multiply(a, b)), rotation_matrix(a) @ rotation_matrix(b), atol=1e-12
    )
    nose = rotation_matrix(resting_state(yaw=math.pi / 2)[6:10]) @ [1.0, 0.0, 0.0]
    np.testing.assert_allclose(nose, [0.0, 1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize('name', ['reference', 'crazyflie'])
def test_mixer_lets_thrust_yield_first_then_yaw_then_roll_and_pitch(name):
    airframe = presets.load(name).airframe  # a plus and an X frame
    mixer = Mixer(airframe)
    full = airframe.thrust_coefficient * airframe.rotor_speed_max**2
    roll, yaw = airframe.allocation[1].max() * full, airframe.allocation[3].max() * full

    def made(thrust, torques):
        thrusts, saturated = mixer.thrusts(thrust, np.array(torques))
        assert thrusts.min() >= 0
        assert thrusts.max() <= full
        return airframe.allocation @ thrusts, saturated

    wanted = [2 * full, 0.1 * roll, -0.1 * roll, 0.1 * yaw]
    got, saturated = made(wanted[0], wanted[1:])
    np.testing.assert_allclose(got, wanted)
    assert not saturated
    # Full thrust wanted: torques are made in full, thrust gives way. The same without thrust.
    for thrust in (4 * full, 0.0):
        got, saturated = made(thrust, wanted[1:])
        np.testing.assert_allclose(got[1:], wanted[1:], atol=1e-9 * roll)
        assert saturated
    # More yaw than there is beside roll: roll in full, yaw in its direction.
    got, _ = made(2 * full, [0.5 * roll, 0.0, 9 * yaw])
    np.testing.assert_allclose(got[1:3], [0.5 * roll, 0.0], atol=1e-9 * roll)
    assert 0 < got[3] < 9 * yaw
    # More roll than there is: as much as there is.
    got, _ = made(2 * full, [99 * roll, 0.0, 0.0])
    assert got[1] > 0.9 * roll


def test_frames_place_the_rotors():
    np.testing.assert_allclose(
        frame_positions('plus', 2.0), [[2, 0, 0], [0, -2, 0], [-2, 0, 0], [0, 2, 0]], atol=1e-12
    )
    h = math.sqrt(2)
    np.testing.assert_allclose(
        frame_positions('x', 2.0), [[h, h, 0], [h, -h, 0], [-h, -h, 0], [-h, h, 0]], atol=1e-12
    )
    with pytest.raises(ValueError, match='use one of plus, x'):
        frame_positions('h', 1.0)


def test_airframe_refuses_what_cannot_fly():
    good = presets.load('reference').airframe
    values = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for wrong, message in (
        ({'mass': 0.0}, 'mass'),
        ({'rotor_directions': (1, 1, 1, 2)}, 'must be 1 or -1'),
        ({'rotor_directions': (1, 1, 1, 1)}, 'independently'),
        ({'rotor_positions': good.rotor_positions[:3]}, 'shape'),
    ):
        with pytest.raises(ValueError, match=message):
            Airframe(**{**values, **wrong})


@pytest.mark.parametrize('name', [name for name in presets.names() if name != 'cf21b'])
@pytest.mark.parametrize('backend', ['model', 'rotorpy'])
def test_every_vehicle_hovers_and_follows_its_rates(name, backend):
    preset = presets.load(name)
    simulator = FlightSimulator(preset, backend)
    for _ in range(200):
        simulator.step(HOVER)
    np.testing.assert_allclose(simulator.truth(), resting_state(), atol=1e-9)
    for axis in range(3):
        simulator.reset(resting_state())
        u = HOVER.copy()
        u[1 + axis] = 0.5
        made = []
        for _ in range(100):
            simulator.step(u)
            made.append(simulator.truth()[RATES][axis] / 0.5)
        assert made[-1] == pytest.approx(1.0, abs=0.04)
        assert max(made) < 1.1
        # A first-order lag tau has lost tau seconds of turning in the end.
        lag = simulator.time_step * sum(1 - value for value in made)
        assert lag == pytest.approx(preset.model.rate_lags[axis], rel=0.35)


def test_fixed_midpoint_steps_fly_as_rotorpys_own_step():
    for name in ('hummingbird', 'crazyflie', 'px4_sih'):
        preset = presets.load(name)
        physics = RotorpyPhysics(preset.constants, 0.002)
        x0 = resting_state([1.0, 2.0, 3.0])
        x0[3:6], x0[RATES] = [1.0, -2.0, 0.5], [1.0, -0.5, 0.3]
        hover = preset.airframe.hover_speed
        physics.reset(x0, hover)
        state = {
            'x': x0[POSITION], 'v': x0[3:6], 'q': x0[[7, 8, 9, 6]], 'w': x0[RATES],
            'wind': np.array([0.0, 3.0, 0.0]), 'rotor_speeds': np.full(4, hover),
        }  # fmt: skip
        for k in range(20):
            speeds = hover * (1 + 0.05 * np.sin(k + np.arange(4.0)))
            state = physics.vehicle.step(state, {'cmd_motor_speeds': speeds}, 0.01)
            for _ in range(5):
                physics.advance(speeds, state['wind'], 1.0)
        x = physics.state()
        np.testing.assert_allclose(x[POSITION], state['x'], atol=2e-3)
        np.testing.assert_allclose(x[3:6], state['v'], atol=5e-3)
        np.testing.assert_allclose(x[[7, 8, 9, 6]], state['q'], atol=2e-3)


def test_both_physics_fly_alike_where_they_model_the_same():
    # PX4's vehicle has no rotor drag; without its body drag both are a rigid body with motors.
    still = Conditions(drag_scale=0.0)
    a, b = (
        fly(FlightSimulator(presets.load('px4_sih'), backend, conditions=still))
        for backend in ('rotorpy', 'model')
    )
    # RotorPy normalises the quaternion in the middle of a step too.
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_conditions_change_the_truth_and_nothing_that_the_controller_knows():
    preset = presets.load('px4_sih')

    def climb(**conditions):
        simulator = FlightSimulator(preset, 'rotorpy', conditions=Conditions(**conditions))
        assert simulator.parameters == preset.airframe
        for _ in range(100):
            simulator.step(HOVER)
        return simulator.truth()[5]

    assert climb() == pytest.approx(0.0, abs=1e-9)
    assert climb(mass_scale=1.2) == pytest.approx(-GRAVITY * (1 - 1 / 1.2), rel=0.05)
    assert climb(thrust_scale=1.1) == pytest.approx(0.1 * GRAVITY, rel=0.05)
    assert climb(battery_sag=0.1) == pytest.approx(-0.1 * GRAVITY / 2, rel=0.1)
    constants = Conditions(drag_scale=2.0, inertia_scale=3.0).applied_to(preset.constants)
    assert constants['c_Dx'] == 2 * preset.constants['c_Dx']
    assert constants['Izz'] == 3 * preset.constants['Izz']


@pytest.mark.parametrize('backend', ['model', 'rotorpy'])
def test_wind_carries_the_vehicle_along(backend):
    wind = Conditions(wind=Wind('constant', (0.0, 3.0, 0.0)))
    simulator = FlightSimulator(presets.load('hummingbird'), backend, conditions=wind)
    for _ in range(100):
        simulator.step(HOVER)
    x = simulator.truth()
    assert x[1] > 0.3
    assert abs(x[0]) < 0.1 * x[1]


def test_delays_hold_commands_and_measurements_back():
    preset = presets.load('crazyflie')
    late = FlightSimulator(preset, 'model', conditions=Conditions(delay=0.03))
    now = FlightSimulator(preset, 'model')
    old = FlightSimulator(preset, 'model', conditions=Conditions(measurement_delay=0.02))
    u = HOVER + [0.0, 1.0, 0.0, 0.0]
    truths = []
    for k in range(10):
        for simulator in (late, now, old):
            simulator.step(u)
        truths.append(now.truth())
        assert (late.truth()[10] == 0) == (k < 3)
        if k >= 2:
            np.testing.assert_array_equal(old.measure(), truths[k - 2])
            np.testing.assert_allclose(late.truth()[10], truths[k - 3][10] if k > 2 else 0.0)


def test_flights_repeat_by_seed_and_number_alone():
    conditions = Conditions(
        position_noise_std=0.01, velocity_noise_std=0.02, attitude_noise_std=0.01,
        rates_noise_std=0.05, wind=Wind('dryden', (0.0, 3.0, 0.0)),
    )  # fmt: skip
    simulator = FlightSimulator(presets.load('crazyflie'), 'model', 0.01, conditions, seed=3)
    first = fly(simulator, flight=5)
    assert not np.array_equal(fly(simulator, flight=6), first)
    np.testing.assert_array_equal(fly(pickle.loads(pickle.dumps(simulator)), flight=5), first)
    np.testing.assert_array_equal(simulator.measure(), simulator.measure())
    np.testing.assert_allclose(np.linalg.norm(first[:, 6:10], axis=1), 1.0)


def test_noise_has_its_standard_deviation():
    conditions = Conditions(
        position_noise_std=0.01, velocity_noise_std=0.02, attitude_noise_std=0.03,
        rates_noise_std=0.05,
    )  # fmt: skip
    simulator = FlightSimulator(presets.load('px4_sih'), 'model', conditions=conditions)
    errors = []
    for _ in range(1000):
        simulator.step(HOVER)
        errors.append(difference(simulator.measure(), simulator.truth()))
    wanted = np.repeat([0.01, 0.02, 0.03, 0.05], 3)
    np.testing.assert_allclose(np.std(errors, axis=0), wanted, rtol=0.1)


def test_winds_are_rotorpys_and_gusts_have_their_intensity():
    from rotorpy.wind.default_winds import SinusoidWind

    wind = Wind('sinusoid', (0.0, 3.0, 0.0), amplitude=(1.0, 2.0, 0.5), frequency=0.4)
    source = WindSource(wind, 0.01, np.random.default_rng(0))
    theirs = SinusoidWind(np.array(wind.amplitude), np.full(3, 0.4), np.zeros(3))
    for k in range(100):
        np.testing.assert_allclose(
            source.next(), theirs.update(0.01 * k, None) + wind.mean, atol=1e-12
        )
    wind = Wind('dryden', (0.0, 8.0, 0.0), intensity=(0.5, 1.0, 2.0))
    samples = np.array(
        [
            [source.next() for _ in range(100)]
            for flight in range(200)
            for source in [WindSource(wind, 0.05, np.random.default_rng(flight))]
        ]
    )
    np.testing.assert_allclose(samples.mean(axis=(0, 1)), wind.mean, atol=0.4)
    for when in (0, 99):  # stationary from the beginning
        np.testing.assert_allclose(samples[:, when].std(axis=0), wind.intensity, rtol=0.2)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: presets.load('dragonfly'), 'vehicles are cf21b, crazyflie, crazyflie_brushless'),
        (lambda: FlightSimulator(presets.load('reference'), 'gazebo'), 'model, rotorpy'),
        (lambda: FlightSimulator(presets.load('reference'), time_step=0.0), 'must be positive'),
        (lambda: Conditions(mass_scale=0.0), 'mass_scale = 0.0 must be finite and positive'),
        (lambda: Conditions(delay=math.nan), 'delay'),
        (lambda: Wind('storm'), 'none, constant, sinusoid, dryden'),
        (lambda: Wind(mean=(0.0, 3.0, 0.0)), 'no effect'),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_state_and_no_command_of_the_wrong_kind_gets_in():
    simulator = FlightSimulator(presets.load('reference'), 'model')
    for wrong in (np.zeros(12), np.zeros(13), np.full(13, math.nan)):
        with pytest.raises(ValueError, match='initial state'):
            simulator.reset(wrong)
    for wrong in (np.zeros(3), np.array([9.8, math.nan, 0, 0])):
        with pytest.raises(ValueError, match='command must be 4 finite numbers'):
            simulator.step(wrong)


def test_integral_finds_a_torque_that_the_loop_does_not_know():
    airframe = presets.load('px4_sih').airframe
    autopilot = Autopilot(airframe, 0.002)
    rates, acceleration, speeds = np.zeros(3), np.zeros(3), np.full(4, airframe.hover_speed)
    inertia = np.array(airframe.inertia)
    for _ in range(2000):
        command = autopilot.rotor_speeds(HOVER, rates)
        speeds = speeds + (command - speeds) * 0.002 / airframe.motor_time_constant
        torques = (airframe.allocation @ (airframe.thrust_coefficient * speeds**2))[1:]
        acceleration = torques / inertia + [1.5, -1.0, 0.3]
        rates = rates + 0.002 * acceleration
    np.testing.assert_allclose(rates, 0.0, atol=1e-3)
