"""The frames of autopilots: known orientations, and both ways undo each other."""

import math

import numpy as np
import pytest

from hmpc_ros.autopilots import frames
from hmpc_ros.plant.odometry import quaternion_from_euler, to_world


def matrix(quaternion) -> np.ndarray:
    w, x, y, z = quaternion
    return np.array([to_world((x, y, z, w), *axis) for axis in np.eye(3)]).T


def from_euler(roll: float, pitch: float, yaw: float):
    x, y, z, w = quaternion_from_euler(roll, pitch, yaw)
    return w, x, y, z


def random_quaternions(count: int) -> np.ndarray:
    drawn = np.random.default_rng(3).normal(size=(count, 4))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


WORLD = np.array([frames.world(*axis) for axis in np.eye(3)]).T
BODY = np.array([frames.body(*axis) for axis in np.eye(3)]).T


def test_facing_east_is_no_rotation_in_enu():
    east = from_euler(0.0, 0.0, math.pi / 2)
    assert frames.orientation(*east) == pytest.approx((1.0, 0.0, 0.0, 0.0), abs=1e-15)
    assert frames.orientation(1.0, 0.0, 0.0, 0.0) == pytest.approx(east, abs=1e-15)


def test_nose_down_to_the_north_pushes_north():
    quaternion = frames.orientation(*from_euler(0.0, math.radians(-10.0), 0.0))
    thrust_axis = matrix(quaternion)[:, 2]
    ten = math.radians(10.0)
    assert thrust_axis == pytest.approx((0.0, math.sin(ten), math.cos(ten)))
    assert thrust_axis == pytest.approx((0.0, 0.174, 0.985), abs=5e-4)


def test_vectors_turn_as_named():
    assert frames.world(1.0, 2.0, -3.0) == (2.0, 1.0, 3.0)
    assert frames.body(1.0, 2.0, -3.0) == (1.0, -2.0, 3.0)
    assert frames.heading(0.0) == pytest.approx(math.pi / 2)
    assert frames.heading(math.pi / 2) == pytest.approx(0.0)
    assert frames.heading(frames.heading(-3.0)) == pytest.approx(-3.0)


def test_quaternions_turn_as_the_matrices_of_the_two_frames_do():
    for quaternion in random_quaternions(200):
        expected = WORLD @ matrix(quaternion) @ BODY
        assert matrix(frames.orientation(*quaternion)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ('precision', 'tolerance'), [(np.float64, 1e-12), (np.float32, 5e-6)], ids=['double', 'single']
)
def test_there_and_back_is_where_it_began(precision, tolerance):
    draw = np.random.default_rng(5)

    def sent(values):
        return [float(precision(value)) for value in values]

    for quaternion in random_quaternions(500):
        back = frames.orientation(*sent(frames.orientation(*quaternion)))
        sign = math.copysign(1.0, float(np.dot(back, quaternion)))
        assert np.abs(sign * np.array(back) - quaternion).max() < tolerance
        assert frames.is_rotation(*sent(quaternion))
        vector = draw.uniform(-10, 10, 3)
        for turn in (frames.world, frames.body):
            assert turn(*turn(*vector)) == tuple(vector)  # exact: only signs and places change
            assert np.abs(np.array(turn(*sent(turn(*vector)))) - vector).max() < 10 * tolerance


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_what_is_not_known_stays_unknown(bad):
    assert not math.isfinite(sum(frames.world(1.0, bad, 2.0)))
    assert not math.isfinite(sum(frames.body(1.0, bad, 2.0)))
    for place in range(4):
        quaternion = [0.5, 0.5, 0.5, 0.5]
        quaternion[place] = bad
        assert not math.isfinite(sum(frames.orientation(*quaternion)))
        assert not frames.is_rotation(*quaternion)
    assert not frames.is_rotation(0.0, 0.0, 0.0, 0.0)
