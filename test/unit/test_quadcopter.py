"""The dynamics against an independent formula, symmetries, energy and finite differences."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX, Quadcopter, QuadcopterParameters

HEAVY = QuadcopterParameters(
    mass=1.1, arm_length=0.3, inertia=(0.011, 0.014, 0.02), linear_drag=(0.1, 0.2, 0.3)
)
TURNED = replace(HEAVY, frame='x', rotor_directions=(1, -1, 1, -1))


def random_state(rng):
    return rng.normal(0.0, [3, 3, 3, 1, 1, 1, 0.4, 0.4, 1.0, 0.5, 0.5, 0.5])


def newton_euler(parameters, x, u, force):
    """dx/dt from rotation matrices and Euler's equation: nothing shared with the implementation."""
    p = parameters
    velocity, angles, rates = x[3:6], x[6:9], x[9:12]
    body_to_world = Rotation.from_euler('ZYX', angles[::-1])
    thrust = p.thrust_coefficient * np.asarray(u) ** 2
    arms = p.arm_length * np.array([[1, 0, 0], [0, -1, 0], [-1, 0, 0], [0, 1, 0]])
    if p.frame == 'x':
        arms = Rotation.from_euler('Z', 45, degrees=True).apply(arms)
    torque = sum(np.cross(arm, [0, 0, t]) for arm, t in zip(arms, thrust, strict=True))
    # Front and back rotors turn one way, left and right ones the other.
    turning = np.array(p.rotor_directions)
    torque = torque + [0, 0, p.drag_torque_coefficient * turning @ np.asarray(u) ** 2]
    rotor_momentum = np.array([0, 0, p.rotor_inertia * turning @ np.asarray(u)])
    inertia = np.diag(p.inertia)
    rate_derivative = np.linalg.solve(
        inertia, torque - np.cross(rates, inertia @ rates + rotor_momentum)
    )
    acceleration = (
        body_to_world.apply([0, 0, thrust.sum()]) + force - np.array(p.linear_drag) * velocity
    ) / p.mass - [0, 0, p.gravity]
    # Angle rates by a tiny rotation about the body rates.
    h = 1e-6
    after = (body_to_world * Rotation.from_rotvec(h * rates)).as_euler('ZYX')[::-1]
    before = (body_to_world * Rotation.from_rotvec(-h * rates)).as_euler('ZYX')[::-1]
    return np.concatenate((velocity, acceleration, (after - before) / (2 * h), rate_derivative))


@pytest.mark.parametrize('parameters', [QuadcopterParameters(), HEAVY, TURNED])
def test_euler_step_follows_newton_and_euler(parameters):
    rng = np.random.default_rng(1)
    quadcopter = Quadcopter(parameters, time_step=1e-3)
    for _ in range(20):
        x, u, force = random_state(rng), rng.uniform(300, 700, NU), rng.normal(0, 0.5, 3)
        derivative = (quadcopter.step(x, u, force) - x) / 1e-3
        expected = newton_euler(parameters, x, u, force)
        np.testing.assert_allclose(derivative, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ('frame', 'roll', 'pitch'),
    [('plus', [0, -1, 0, 1], [-1, 0, 1, 0]), ('x', [1, -1, -1, 1], [-1, -1, 1, 1])],
)
def test_a_faster_rotor_turns_the_vehicle_as_its_place_in_the_frame_says(frame, roll, pitch):
    linear = Quadcopter(QuadcopterParameters(frame=frame)).linearise()
    signs = np.round(linear.B[9:12] / np.abs(linear.B[9:12]).max(axis=1, keepdims=True), 12)
    np.testing.assert_array_equal(signs, [roll, pitch, [-1, 1, -1, 1]])
    np.testing.assert_allclose(linear.B[5], linear.B[5, 0])


def test_hover_stays():
    quadcopter = Quadcopter()
    assert quadcopter.parameters.hover_speed == pytest.approx(620.61, abs=0.005)
    np.testing.assert_allclose(
        quadcopter.step(np.zeros(NX), quadcopter.hover_input), np.zeros(NX), atol=1e-14
    )


def test_free_fall_conserves_energy_without_drag():
    parameters = QuadcopterParameters(linear_drag=(0, 0, 0))
    quadcopter = Quadcopter(parameters, integrator='rk4', substeps=4)
    x = np.zeros(NX)
    x[3:6], x[9:12] = [1, -2, 3], [0.3, -0.2, 0.1]

    def energy(x):
        potential = parameters.mass * parameters.gravity * x[2]
        kinetic = 0.5 * parameters.mass * x[3:6] @ x[3:6]
        return potential + kinetic + 0.5 * np.array(parameters.inertia) @ x[9:12] ** 2

    before = energy(x)
    for _ in range(10):
        x = quadcopter.step(x, np.zeros(NU))
    assert energy(x) == pytest.approx(before, rel=1e-9)


def test_mirror_image_flies_the_mirrored_path():
    rng = np.random.default_rng(2)
    quadcopter = Quadcopter()
    mirror = np.array([1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1.0])  # y -> -y
    x, u = random_state(rng), rng.uniform(300, 700, NU)
    mirrored = u[[0, 3, 2, 1]]
    # Rotor drag and gyroscopic torques change sign with the rotors' sense of rotation, so the
    # mirrored vehicle is the same one only without them.
    plain = QuadcopterParameters(rotor_inertia=0.0, drag_torque_coefficient=1e-30)
    quadcopter = Quadcopter(plain)
    np.testing.assert_allclose(
        quadcopter.step(mirror * x, mirrored), mirror * quadcopter.step(x, u), atol=1e-12
    )


@pytest.mark.parametrize(('integrator', 'substeps'), [('euler', 1), ('euler', 3), ('rk4', 2)])
def test_jacobians_agree_with_central_differences(integrator, substeps):
    rng = np.random.default_rng(3)
    quadcopter = Quadcopter(HEAVY, 0.05, integrator, substeps)
    x, u = random_state(rng), rng.uniform(300, 700, NU)
    a, b = quadcopter.jacobians(x, u)
    h = 1e-5
    for i in range(NX):
        step = h * np.eye(NX)[i]
        difference = (quadcopter.step(x + step, u) - quadcopter.step(x - step, u)) / (2 * h)
        np.testing.assert_allclose(a[:, i], difference, rtol=1e-6, atol=1e-8)
    h = 1e-2
    for i in range(NU):
        step = h * np.eye(NU)[i]
        difference = (quadcopter.step(x, u + step) - quadcopter.step(x, u - step)) / (2 * h)
        np.testing.assert_allclose(b[:, i], difference, rtol=1e-6, atol=1e-9)
    along_a, along_b = quadcopter.jacobians_along(np.array([x, x]), np.array([u, u]))
    assert along_a.shape == (2, NX, NX)
    np.testing.assert_array_equal(along_a[1], a)
    np.testing.assert_array_equal(along_b[0], b)


def test_rk4_is_of_fourth_order():
    rng = np.random.default_rng(4)
    x, u = random_state(rng), rng.uniform(500, 700, NU)
    exact = Quadcopter(time_step=0.1, integrator='rk4', substeps=400).step(x, u)
    errors = [
        np.abs(Quadcopter(time_step=0.1, integrator='rk4', substeps=n).step(x, u) - exact).max()
        for n in (2, 4)
    ]
    assert 10 < errors[0] / errors[1] < 25


def test_linearisation_predicts_small_deviations_from_hover():
    quadcopter = Quadcopter()
    model = quadcopter.linearise()
    rng = np.random.default_rng(5)
    x, u = 1e-4 * rng.normal(size=NX), 1e-3 * rng.normal(size=NU)
    np.testing.assert_allclose(
        model.predict(x, u), quadcopter.step(x, quadcopter.hover_input + u), atol=2e-8
    )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'mass': 0.0}, 'mass'),
        ({'arm_length': -0.1}, 'arm_length'),
        ({'thrust_coefficient': math.nan}, 'thrust_coefficient'),
        ({'inertia': (1e-3, 1e-3)}, 'inertia needs 3'),
        ({'inertia': (1e-3, 1e-3, 9e-3)}, 'principal moment'),
        ({'linear_drag': (0.1, -0.1, 0.1)}, 'linear_drag'),
        ({'frame': 'h'}, 'plus, x'),
        ({'rotor_directions': (1, 1, -1, -1)}, 'neighbours'),
    ],
)
def test_unphysical_constants_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        QuadcopterParameters(**change)


def test_an_inertia_that_is_off_by_an_error_of_measurement_is_taken_with_a_warning():
    with pytest.warns(UserWarning, match=r'exceeds the sum of the other two by 1\.0%'):
        crazyflie = QuadcopterParameters(inertia=(1.43e-5, 1.43e-5, 2.89e-5))
    assert crazyflie.inertia == (1.43e-5, 1.43e-5, 2.89e-5)
    with pytest.raises(ValueError, match=r'by 5\.0%'):
        QuadcopterParameters(inertia=(1e-5, 1e-5, 2.1e-5))


@pytest.mark.parametrize(
    'arguments', [{'time_step': 0.0}, {'integrator': 'magic'}, {'substeps': 0}]
)
def test_impossible_discretisations_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Quadcopter(**arguments)


def test_quadcopter_survives_pickling():
    quadcopter = Quadcopter(HEAVY, 0.05, 'rk4', 2)
    twin = pickle.loads(pickle.dumps(quadcopter))
    x, u = np.full(NX, 0.1), np.full(NU, 600.0)
    np.testing.assert_array_equal(twin.step(x, u), quadcopter.step(x, u))


def test_linear_model_is_saved_and_read_back_with_its_identity(tmp_path):
    model = Quadcopter().linearise()
    model.save(tmp_path / 'model.npz')
    assert LinearModel.load(tmp_path / 'model.npz').identity == model.identity
    changed = LinearModel(model.A * (1 + 1e-15), model.B, model.c, 0.1, model.hover_input + 1e-9)
    assert changed.identity != model.identity


def test_damaged_model_file_is_named(tmp_path):
    path = tmp_path / 'model.npz'
    path.write_bytes(b'PK\x03\x04 nonsense')
    with pytest.raises(ValueError, match=r'model\.npz is not a readable linear model'):
        LinearModel.load(path)
    with pytest.raises(ValueError, match='absent'):
        LinearModel.load(tmp_path / 'absent.npz')
