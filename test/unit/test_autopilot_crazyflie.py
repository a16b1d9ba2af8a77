"""What Crazyswarm2's server tells and takes, by golden values."""

import math
from types import SimpleNamespace

import pytest

from hmpc_ros.autopilots import crazyflie
from hmpc_ros.autopilots.state import BadEstimateError
from hmpc_ros.plant.odometry import quaternion_from_euler


def twist():
    return SimpleNamespace(
        linear=SimpleNamespace(x=0.0, y=0.0, z=0.0), angular=SimpleNamespace(x=0.0, y=0.0, z=0.0)
    )


def odometry(stamp: float, euler=(0.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0)):
    """Return what the server tells."""
    x, y, z, w = quaternion_from_euler(*euler)
    pose = SimpleNamespace(
        position=SimpleNamespace(x=1.0, y=2.0, z=3.0),
        orientation=SimpleNamespace(x=x, y=y, z=z, w=w),
    )
    moved = twist()
    moved.linear.x, moved.linear.y, moved.linear.z = velocity
    seconds = int(stamp)
    header = SimpleNamespace(
        stamp=SimpleNamespace(sec=seconds, nanosec=round(1e9 * (stamp - seconds)))
    )
    return SimpleNamespace(
        header=header, pose=SimpleNamespace(pose=pose), twist=SimpleNamespace(twist=moved)
    )


def test_its_velocity_is_in_the_world_and_ours_in_the_body():
    message = odometry(5.25, (0.0, 0.0, math.pi / 2), (1.0, 0.0, 0.5))
    state = crazyflie.state_from_odometry(message, crazyflie.TurnRates())
    assert state.stamp == 5.25
    assert state.position == (1.0, 2.0, 3.0)
    assert state.velocity == pytest.approx((0.0, -1.0, 0.5))
    assert state.world_velocity == pytest.approx((1.0, 0.0, 0.5))


@pytest.mark.parametrize('wanted', [(1.0, 0.0, 0.0), (0.0, -2.0, 0.0), (0.0, 0.0, 3.0)])
def test_rates_come_from_orientations_across_the_turn_of_the_sign(wanted):
    rates = crazyflie.TurnRates()
    steps = 50 if wanted[1] else 400  # beyond a pitch of 90 deg, roll and yaw turn over
    for k in range(steps):
        euler = tuple(0.01 * k * each for each in wanted)
        state = crazyflie.state_from_odometry(odometry(10.0 + 0.01 * k, euler), rates)
    assert state.rates == pytest.approx(wanted, abs=1e-3)


def test_after_a_gap_rates_begin_at_rest():
    rates = crazyflie.TurnRates()
    rates.at(0.0, (1.0, 0.0, 0.0, 0.0))
    assert rates.at(0.01, (math.cos(0.01), 0.0, 0.0, math.sin(0.01)))[2] > 0.5
    assert rates.at(1.0, (math.cos(0.5), 0.0, 0.0, math.sin(0.5))) == (0.0, 0.0, 0.0)


def test_what_is_not_finite_is_refused():
    message = odometry(1.0, velocity=(math.nan, 0.0, 0.0))
    with pytest.raises(BadEstimateError, match='not finite'):
        crazyflie.state_from_odometry(message, crazyflie.TurnRates())


def test_rates_of_cmd_vel_legacy_are_degrees_with_the_firmwares_signs_and_bounds():
    message = twist()
    crazyflie.set_rates(message, (0.1, 0.2, 0.3), 0.5)
    assert message.linear.y == pytest.approx(math.degrees(0.1))
    assert message.linear.x == pytest.approx(math.degrees(0.2))
    assert message.angular.z == pytest.approx(-math.degrees(0.3))
    assert message.linear.z == pytest.approx(32767.5)
    for throttle, thrust in ((1.0, 60000.0), (0.0, 1000.0)):  # below 1000 motors stop in flight
        crazyflie.set_rates(message, (0.0, 0.0, 0.0), throttle)
        assert message.linear.z == thrust


def test_charge_and_failures():
    assert crazyflie.charge(3.6, 3.0, 4.2) == pytest.approx(0.5)
    assert crazyflie.charge(2.5, 3.0, 4.2) == 0.0
    assert crazyflie.charge(4.4, 3.0, 4.2) == 1.0
    assert math.isnan(crazyflie.charge(math.nan, 3.0, 4.2))
    assert crazyflie.failure(crazyflie.FLYING, 0) == ''
    assert crazyflie.failure(crazyflie.FLYING | crazyflie.TUMBLED, 0) == 'tumbled'
    assert crazyflie.failure(crazyflie.LOCKED, 0) == 'locked'
    assert crazyflie.failure(crazyflie.FLYING, 3) == 'low power'
