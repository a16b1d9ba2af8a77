"""Messages to arrays and back."""

import math

import numpy as np
import pytest

pytest.importorskip('rclpy')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Transform, Twist, TwistStamped
from goal_poses import pose_from_goal
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from hmpc_ros.plant.odometry import quaternion_from_euler
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.ros import conversions


def random_states(count: int, tilt: float = 1.5) -> np.ndarray:
    rng = np.random.default_rng(1)
    states = rng.normal(scale=5.0, size=(count, 12))
    states[:, 6] = rng.uniform(-math.pi, math.pi, count)
    states[:, 7] = rng.uniform(-tilt, tilt, count)
    states[:, 8] = rng.uniform(-math.pi, math.pi, count)
    return states


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def rotation(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Body to world, as the product of the three elementary rotations."""
    c, s = math.cos, math.sin
    about_x = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
    about_y = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
    about_z = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def test_a_state_comes_back_from_odometry_unchanged():
    message, back = Odometry(), np.empty(12)
    for state in random_states(300):
        conversions.odometry_from_state(state, 12_345_678_901, message)
        received = over_the_wire(message)
        conversions.state_from_odometry(received, back)
        np.testing.assert_allclose(back, state, rtol=0, atol=1e-12)
        assert conversions.nanoseconds(received.header.stamp) == 12_345_678_901


def test_the_reference_start_comes_back_exactly():
    message, back = Odometry(), np.empty(12)
    conversions.odometry_from_state(np.zeros(12), 0, message)
    conversions.state_from_odometry(message, back)
    assert not back.any()


def test_twist_is_in_the_body_frame_and_the_quaternion_turns_body_to_world():
    message = Odometry()
    for state in random_states(20):
        conversions.odometry_from_state(state, 0, message)
        body = rotation(*state[6:9]).T @ state[3:6]
        linear, angular = message.twist.twist.linear, message.twist.twist.angular
        np.testing.assert_allclose([linear.x, linear.y, linear.z], body, atol=1e-12)
        np.testing.assert_array_equal([angular.x, angular.y, angular.z], state[9:12])


def test_facing_left_a_forward_speed_is_along_world_y():
    message, state = Odometry(), np.empty(12)
    message.pose.pose.orientation.z = message.pose.pose.orientation.w = math.sqrt(0.5)
    message.twist.twist.linear.x = 2.0
    conversions.state_from_odometry(message, state)
    np.testing.assert_allclose(state[3:6], [0, 2, 0], atol=1e-12)
    assert state[8] == pytest.approx(math.pi / 2)


def test_a_quaternion_of_single_precision_is_taken_as_the_rotation_it_means():
    message, back = Odometry(), np.empty(12)
    for state in random_states(50):
        conversions.odometry_from_state(state, 0, message)
        q = message.pose.pose.orientation
        q.x, q.y, q.z, q.w = (float(value) * 1.0001 for value in (q.x, q.y, q.z, q.w))
        conversions.state_from_odometry(message, back)
        np.testing.assert_allclose(back, state, atol=1e-11)


def test_straight_up_keeps_the_rotation():
    for pitch in (math.pi / 2, -math.pi / 2):
        angles = conversions.euler_from_quaternion(
            *conversions.quaternion_from_euler(0.3, pitch, 0.8)
        )
        np.testing.assert_allclose(rotation(*angles), rotation(0.3, pitch, 0.8), atol=1e-7)


@pytest.mark.parametrize('w', [0.0, 0.9, 1.1, 1e200])
def test_a_quaternion_that_is_no_rotation_is_refused_and_the_state_kept(w):
    message, state = Odometry(), np.full(12, 7.0)
    message.pose.pose.orientation.w = w
    with pytest.raises(conversions.NotARotationError, match='not 1'):
        conversions.state_from_odometry(message, state)
    assert np.all(state == 7.0)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    'field', ['pose.pose.position.y', 'pose.pose.orientation.x', 'twist.twist.linear.z',
              'twist.twist.angular.x']
)  # fmt: skip
def test_no_number_in_odometry_is_no_number_in_the_state(field, value):
    message, state = Odometry(), np.zeros(12)
    *path, leaf = field.split('.')
    part = message
    for name in path:
        part = getattr(part, name)
    setattr(part, leaf, value)
    conversions.state_from_odometry(message, state)
    assert not np.isfinite(state).all()


def test_rotor_speeds_come_back_in_any_order_of_names():
    speeds, back = np.array([0.0, 1.5, 620.0, 630.0]), np.empty(4)
    message = conversions.new_rotor_command()
    conversions.set_rotor_speeds(speeds, 7_000_000_002, message)
    received = over_the_wire(message)
    conversions.rotor_speeds_from_joint_state(received, back)
    np.testing.assert_array_equal(back, speeds)
    assert conversions.nanoseconds(received.header.stamp) == 7_000_000_002

    order = [2, 0, 3, 1]
    shuffled = JointState(
        name=['gimbal', *(received.name[i] for i in order)],
        velocity=[9.0, *(received.velocity[i] for i in order)],
    )
    back[:] = -1.0
    conversions.rotor_speeds_from_joint_state(over_the_wire(shuffled), back)
    np.testing.assert_array_equal(back, speeds)


def test_integer_rotor_speeds_are_sent_as_the_numbers_they_are():
    message, back = conversions.new_rotor_command(), np.empty(4)
    conversions.set_rotor_speeds(np.array([1, 2, 3, 4]), 0, message)
    conversions.rotor_speeds_from_joint_state(over_the_wire(message), back)
    np.testing.assert_array_equal(back, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ('names', 'velocity', 'reason'),
    [
        (['rotor_1', 'rotor_2', 'rotor_3'], [1.0] * 3, 'rotor_4 0 times'),
        (['rotor_1', 'rotor_1', 'rotor_2', 'rotor_3', 'rotor_4'], [1.0] * 5, 'rotor_1 2 times'),
        (['rotor_1', 'rotor_2', 'rotor_3', 'rotor_4'], [1.0] * 3, '4 names but 3 velocities'),
        (['rotor_1', 'rotor_2', 'rotor_3', 'rotor_4'], [1.0, math.nan, 1.0, 1.0], 'not finite'),
    ],
)
def test_a_command_that_is_not_one_speed_per_rotor_is_refused(names, velocity, reason):
    speeds = np.full(4, 5.0)
    with pytest.raises(ValueError, match=reason):
        conversions.rotor_speeds_from_joint_state(JointState(name=names, velocity=velocity), speeds)
    assert np.all(speeds == 5.0)


def test_a_predicted_path_holds_the_poses_and_their_times():
    states = random_states(3)
    path = conversions.new_path('map', 3)
    conversions.set_path(states, 5_900_000_000, 0.1, path)
    path = over_the_wire(path)
    assert path.header.frame_id == 'map'
    for k, pose in enumerate(path.poses):
        assert pose.header.frame_id == 'map'
        assert conversions.nanoseconds(pose.header.stamp) == 5_900_000_000 + k * 100_000_000
        p, q = pose.pose.position, pose.pose.orientation
        assert [p.x, p.y, p.z] == states[k, :3].tolist()
        angles = conversions.euler_from_quaternion(q.x, q.y, q.z, q.w)
        np.testing.assert_allclose(angles, states[k, 6:9], atol=1e-12)


def test_a_goal_comes_back_from_a_pose_and_a_tilted_pose_keeps_its_heading():
    message = PoseStamped()
    pose_from_goal(Goal((1.0, -2.0, 3.0), 2.5), message)
    goal = conversions.goal_from_pose(over_the_wire(message))
    assert goal.position == (1.0, -2.0, 3.0)
    assert goal.yaw == pytest.approx(2.5, abs=1e-12)
    q = message.pose.orientation
    q.x, q.y, q.z, q.w = conversions.quaternion_from_euler(0.2, -0.4, 2.5)
    assert conversions.goal_from_pose(message).yaw == pytest.approx(2.5, abs=1e-12)


@pytest.mark.parametrize('part', ['position', 'orientation'])
def test_a_goal_that_is_not_finite_or_no_rotation_is_refused(part):
    message = PoseStamped()
    getattr(message.pose, part).x = math.nan
    with pytest.raises(ValueError, match=r'finite|not 1'):
        conversions.goal_from_pose(message)


@pytest.mark.parametrize(
    ('time', 'sec', 'nanosec'),
    [
        (2**31 * 10**9 - 1, 2**31 - 1, 999_999_999),
        (2**31 * 10**9, 2**31 - 1, 999_999_999),
        (10**30, 2**31 - 1, 999_999_999),
        (-(2**31) * 10**9 - 1, -(2**31), 0),
        (-1, -1, 999_999_999),
    ],
)
def test_a_stamp_beyond_the_range_of_messages_does_not_wrap(time, sec, nanosec):
    stamp = Time()
    conversions.set_stamp(stamp, time)
    heard = deserialize_message(serialize_message(stamp), Time)
    assert (heard.sec, heard.nanosec) == (sec, nanosec)


def test_a_rigid_body_comes_back_from_odometry_with_its_twist_in_the_body_frame():
    message, back = Odometry(), np.empty(13)
    rng = np.random.default_rng(2)
    for euler in random_states(50)[:, 6:9]:
        state = rng.normal(scale=5.0, size=13)
        x, y, z, w = quaternion_from_euler(*euler)
        state[6:10] = w, x, y, z
        conversions.odometry_from_rigid_body(state, 12_345_678_901, message)
        received = over_the_wire(message)
        linear = received.twist.twist.linear
        body = rotation(*euler).T @ state[3:6]
        np.testing.assert_allclose([linear.x, linear.y, linear.z], body, atol=1e-12)
        conversions.rigid_body_from_odometry(received, back)
        np.testing.assert_allclose(back, state, rtol=0, atol=1e-12)
        assert conversions.nanoseconds(received.header.stamp) == 12_345_678_901


def test_a_rigid_body_without_a_rotation_is_refused_or_no_number():
    message, state = Odometry(), np.arange(13.0)
    message.pose.pose.orientation.w = 0.5
    with pytest.raises(conversions.NotARotationError):
        conversions.rigid_body_from_odometry(message, state)
    np.testing.assert_array_equal(state, np.arange(13.0))
    message.pose.pose.orientation.w = math.nan
    conversions.rigid_body_from_odometry(message, state)
    assert np.isnan(state).all()


def test_thrust_and_rates_come_back_and_what_is_not_finite_is_refused():
    message, back = TwistStamped(), np.zeros(4)
    command = np.array([9.81, 0.1, -0.2, 0.3])
    conversions.set_rates_command(command, 1_500_000_000, message)
    received = over_the_wire(message)
    assert received.twist.linear.z == 9.81
    assert received.twist.angular.y == -0.2
    conversions.rates_from_command(received, back)
    np.testing.assert_array_equal(back, command)
    received.twist.angular.z = math.nan
    with pytest.raises(ValueError, match='not finite'):
        conversions.rates_from_command(received, np.zeros(4))


def trajectory(*points: dict) -> MultiDOFJointTrajectory:
    message = MultiDOFJointTrajectory()
    for k, point in enumerate(points):
        made = MultiDOFJointTrajectoryPoint(transforms=[Transform()])
        made.transforms[0].translation.x = float(k)
        yaw = point.get('yaw', 0.0)
        q = made.transforms[0].rotation
        q.x, q.y, q.z, q.w = quaternion_from_euler(0.0, 0.0, yaw)
        for name in ('velocities', 'accelerations'):
            if name in point:
                twist = Twist()
                twist.linear.y = point[name]
                setattr(made, name, [twist])
        made.time_from_start.sec, made.time_from_start.nanosec = k, 500_000_000
        message.points.append(made)
    return message


def test_a_trajectory_is_read_with_what_all_of_its_points_have():
    whole = trajectory(
        {'velocities': 1.0, 'accelerations': 2.0, 'yaw': 3.0},
        {'velocities': 1.5, 'accelerations': 2.5, 'yaw': -3.0},
    )
    read = conversions.points_from_trajectory(whole)
    np.testing.assert_allclose(read['times'], [0.5, 1.5])
    np.testing.assert_allclose(read['positions'], [[0, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(read['velocities'][:, 1], [1.0, 1.5])
    np.testing.assert_allclose(read['accelerations'][:, 1], [2.0, 2.5])
    np.testing.assert_allclose(read['yaws'], [3.0, 2 * math.pi - 3.0])  # on, not back
    part = trajectory({'velocities': 1.0, 'accelerations': 2.0}, {'accelerations': 2.5})
    read = conversions.points_from_trajectory(part)
    assert read['velocities'] is None
    assert read['accelerations'] is None


def test_a_trajectory_without_a_path_is_refused():
    with pytest.raises(ValueError, match='1 to 1000 points, got 0'):
        conversions.points_from_trajectory(trajectory())
    with pytest.raises(ValueError, match='got 1001'):
        conversions.points_from_trajectory(trajectory(*[{}] * 1001))
    message = trajectory({}, {})
    message.points[1].transforms[0].rotation.z = math.nan
    with pytest.raises(ValueError, match='point 1 of the trajectory is not finite'):
        conversions.points_from_trajectory(message)
    message.points[1].transforms = []
    with pytest.raises(ValueError, match='point 1 of the trajectory has no transform'):
        conversions.points_from_trajectory(message)
