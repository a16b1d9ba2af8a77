"""References: smooth, bounded, from rest to rest, and what a vehicle needs to follow them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmpc_ros.plant.reference.curves import circle, gerono, lissajous
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.reference.headings import Fixed
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase
from hmpc_ros.plant.reference.protocol import Reference, Samples

CENTRE = (0.3, -0.2, 1.0)


class Turning:
    """Yaw in step with the phase."""

    def __call__(self, phi):
        return 0.4 * phi + 0.3 * np.sin(phi), 0.4 + 0.3 * np.cos(phi)


def paced(curve, heading=None) -> Paced:
    return Paced(curve, Phase(1.6, 12.0, 3.0), heading or Fixed(0.3))


ANALYTIC = {
    'lissajous': paced(lissajous(CENTRE, (1.5, 0.75)), Turning()),
    'gerono': paced(gerono(CENTRE, 1.5), Turning()),
    'circle': paced(circle(CENTRE, 1.5), Turning()),
    'tilted_circle': paced(circle(CENTRE, 1.2, 0.5)),
}


def assert_derivatives_hold(reference: Reference, tolerance: float = 1e-6) -> None:
    """Compare every derivative with central differences of the one below it."""
    step = 1e-4
    t = np.linspace(-0.5, reference.duration + 0.5, 1501)
    now, later, before = (reference.sample(t + h) for h in (0.0, step, -step))
    pairs = ('position velocity', 'velocity acceleration', 'acceleration jerk', 'yaw yaw_rate')
    for value, derivative in map(str.split, pairs):
        numeric = (getattr(later, value) - getattr(before, value)) / (2 * step)
        exact = getattr(now, derivative)
        scale = 1.0 + np.abs(exact).max()
        np.testing.assert_allclose(
            numeric, exact, rtol=0, atol=tolerance * scale, err_msg=derivative
        )


def assert_rests(samples: Samples) -> None:
    for name in ('velocity', 'acceleration', 'jerk', 'yaw_rate'):
        np.testing.assert_allclose(getattr(samples, name), 0.0, atol=1e-6, err_msg=name)


def assert_from_rest_to_rest(reference: Reference) -> None:
    end = reference.duration
    times = np.array([-1.0, 0.0, end, end + 7.0])
    samples = reference.sample(times)
    assert_rests(samples)
    np.testing.assert_allclose(samples.position[0], samples.position[1], atol=1e-9)
    np.testing.assert_allclose(samples.position[2], samples.position[3], atol=1e-9)


@pytest.mark.parametrize('name', ANALYTIC)
def test_curves_have_the_derivatives_they_say_and_rest_at_both_ends(name):
    assert_derivatives_hold(ANALYTIC[name])
    assert_from_rest_to_rest(ANALYTIC[name])


def test_the_eight_is_that_of_the_measurements():
    eight = paced(lissajous((0, 0, 1), (1.5, 0.75)))
    t = np.linspace(3.0, 12.0, 2001)
    samples = eight.sample(t)
    phi = 1.6 * (t - 1.5)  # a ramp of 3 s is worth 1.5 s at the full rate
    expected = np.column_stack([1.5 * np.sin(phi), 0.75 * np.sin(2 * phi), np.ones_like(t)])
    np.testing.assert_allclose(samples.position, expected, atol=1e-12)
    states, _ = flat_states(samples, Drag())
    tilt = np.arccos(1 - 2 * (states[:, 7] ** 2 + states[:, 8] ** 2))
    assert np.linalg.norm(samples.velocity, axis=1).max() == pytest.approx(3.4, abs=0.02)
    assert np.degrees(tilt.max()) == pytest.approx(40, abs=0.5)


def test_a_hover_holds_its_pose():
    samples = Hover((1.0, 2.0, 3.0), 0.5).sample(np.array([0.0, 1e6]))
    assert_rests(samples)
    np.testing.assert_array_equal(samples.position, [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(samples.yaw, [0.5] * 2)


@pytest.mark.parametrize('bad', [(1, 2), (1, 2, np.nan), 'abc', None])
def test_a_hover_refuses_what_is_no_position(bad):
    with pytest.raises(ValueError, match='hover position'):
        Hover(bad)


MODELS = {
    'no drag': Drag(),
    'drag, disturbance, gain': Drag(0.8, (0.5, 0.6, 0.2), (0.3, -0.5, 0.4)),
}


@pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)
@pytest.mark.parametrize('name', ANALYTIC)
def test_a_model_flown_by_the_flat_inputs_stays_on_the_path(name, model):
    """Integrate the vehicle (RK4) open loop under thrust and rates of flatness alone."""
    reference = ANALYTIC[name]
    step, steps = 0.005, 1200
    half = np.arange(2 * steps + 1) * step / 2
    states, inputs = flat_states(reference.sample(half), model)
    drag, disturbance = np.diag(model.drag), np.asarray(model.disturbance)

    def slope(x, u):
        rotation = Rotation.from_quat(x[6:10], scalar_first=True).as_matrix()
        acceleration = model.thrust_gain * u[0] * rotation[:, 2] + disturbance
        acceleration -= rotation @ drag @ rotation.T @ x[3:6] + [0, 0, 9.81]
        w, q = u[1:], x[6:10]
        turn = 0.5 * np.concatenate([[-q[1:] @ w], q[0] * w + np.cross(q[1:], w)])
        return np.concatenate([x[3:6], acceleration, turn])

    x = states[0, :10].copy()
    worst = 0.0
    for k in range(steps):
        u0, u1, u2 = inputs[2 * k : 2 * k + 3]
        k1 = slope(x, u0)
        k2 = slope(x + step / 2 * k1, u1)
        k3 = slope(x + step / 2 * k2, u1)
        k4 = slope(x + step * k3, u2)
        x = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        worst = max(worst, np.abs(x - states[2 * k + 2, :10]).max())
    assert worst < 2e-3  # open loop: an attitude wrong by 1 mrad drifts 0.17 m in 6 s


def test_flatness_keeps_yaw_and_continuous_quaternions():
    states, _ = flat_states(ANALYTIC['lissajous'].sample(np.linspace(0, 15, 3001)), Drag())
    yaw = Rotation.from_quat(states[:, 6:10], scalar_first=True).as_euler('ZYX')[:, 0]
    expected = ANALYTIC['lissajous'].sample(np.linspace(0, 15, 3001)).yaw
    np.testing.assert_allclose(np.exp(1j * yaw), np.exp(1j * expected), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(states[:, 6:10], axis=1), 1.0, atol=1e-12)
    assert np.abs(np.diff(states[:, 6:10], axis=0)).max() < 0.02


@pytest.mark.parametrize('pull', [(0, 0, -9.81), (0, 0, -30.0), (0, 50.0, -9.81), (9e9, 0, 0)])
def test_flatness_stays_finite_whatever_the_path_asks_for(pull):
    zero = np.zeros((1, 3))
    samples = Samples(zero, zero, np.array([pull]), zero + 5.0, np.zeros(1), np.ones(1))
    for model in MODELS.values():
        states, inputs = flat_states(samples, model)
        assert np.all(np.isfinite(states))
        assert np.all(np.isfinite(inputs))
