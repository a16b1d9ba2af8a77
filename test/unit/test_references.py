"""References: smooth, bounded, from rest to rest, and what a vehicle needs to follow them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmpc_ros.plant.reference.curves import circle, gerono, lissajous
from hmpc_ros.plant.reference.factory import KINDS, make, make_feasible
from hmpc_ros.plant.reference.feasibility import Envelope, check, feasible
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.reference.headings import Fixed
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase
from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.reference.slowed import Slowed
from hmpc_ros.plant.reference.splines import from_points, rest_to_rest
from hmpc_ros.plant.reference.transfer import Pace, Transfer, started_from
from hmpc_ros.plant.reference.waypoints import minimum_snap

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
    # Shifted, so that no sample is at a break, where the highest derivative has a corner.
    t = np.linspace(-0.5, reference.duration + 0.5, 1501) + 3.21e-4
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


PACE = Pace(speed=5.0, acceleration=7.0, jerk=50.0)


def peak(vectors) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())


@pytest.mark.parametrize('distance', [1e-12, 1e-4, 0.3, 2.0, 5.0, 10.0, 100.0])
def test_a_step_is_bounded_and_never_overshoots_whatever_the_distance(distance):
    direction = np.array([2.0, -1.0, 0.5]) / np.sqrt(5.25)
    start = np.array([1.0, 2.0, 3.0])
    step = Transfer(start, start + distance * direction, pace=PACE)
    samples = step.sample(np.linspace(-0.1, step.duration + 0.1, 20001))
    assert peak(samples.velocity) <= PACE.speed * (1 + 1e-9)
    assert peak(samples.acceleration) <= PACE.acceleration * (1 + 1e-9)
    assert peak(samples.jerk) <= PACE.jerk * (1 + 1e-9)
    progress = (samples.position - start) @ direction
    assert np.all(np.diff(progress) >= -1e-12)
    assert progress[-1] == pytest.approx(distance, abs=1e-9)
    assert progress.max() <= distance + 1e-9
    assert_from_rest_to_rest(step)
    # No slower than it must be: one of the three limits is reached.
    if distance > 1e-3:
        used = (
            peak(samples.velocity) / PACE.speed,
            peak(samples.acceleration) / PACE.acceleration,
            peak(samples.jerk) / PACE.jerk,
        )
        assert max(used) == pytest.approx(1.0, abs=1e-3)


def test_a_transfer_from_a_flight_under_way_begins_with_its_velocity_and_ends_at_the_goal():
    velocity = np.array([2.0, -3.0, 0.5])
    transfer = Transfer((0, 0, 1), (3, 1, 2), 3.0, -3.0, PACE, velocity)
    t = np.linspace(0, transfer.duration, 5001)
    samples = transfer.sample(t)
    np.testing.assert_allclose(samples.position[0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(samples.velocity[0], velocity, atol=1e-12)
    np.testing.assert_allclose(samples.acceleration[0], 0.0, atol=1e-9)
    assert_rests(transfer.sample(np.array([transfer.duration])))
    np.testing.assert_allclose(samples.position[-1], [3, 1, 2], atol=1e-9)
    assert peak(samples.acceleration) <= 2 * PACE.acceleration
    for value, derivative in (('position', 'velocity'), ('velocity', 'acceleration')):
        numeric = np.gradient(getattr(samples, value), t, axis=0)[1:-1]
        np.testing.assert_allclose(numeric, getattr(samples, derivative)[1:-1], atol=1e-3)
    # The shorter way from 3 rad to -3 rad is 0.28 rad through pi.
    assert samples.yaw[-1] == pytest.approx(-3.0)
    assert np.ptp(samples.yaw) == pytest.approx(2 * np.pi - 6.0)


WAYPOINTS = [(0, 0, 1), (2, 0, 1.5), (2, 2, 1), (0, 2, 2), (0, 0, 1)]

FAR = [(0, 0, 1), (60, 0, 1), (60, 60, 1)]


def random_waypoints(n: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(n).normal(size=(n, 3)), axis=0)


@pytest.mark.parametrize('yaw', ['fixed', 'path', 'given'])
@pytest.mark.parametrize('points', [WAYPOINTS[:2], WAYPOINTS, random_waypoints(40), FAR])
def test_minimum_snap_passes_its_waypoints_within_the_pace(points, yaw):
    yaws = np.linspace(0, 2, len(points))
    path = minimum_snap(points, PACE, yaws, yaw)
    t = np.linspace(0, path.duration, 40001)
    samples = path.sample(t)
    for point in np.asarray(points, dtype=float):
        assert np.linalg.norm(samples.position - point, axis=1).min() < 1e-2
    np.testing.assert_allclose(samples.position[[0, -1]], np.array(points)[[0, -1]], atol=1e-5)
    assert peak(samples.velocity) <= PACE.speed * 1.01
    assert peak(samples.acceleration) <= PACE.acceleration * 1.01
    assert peak(samples.jerk) <= PACE.jerk * 1.05
    assert_derivatives_hold(path, 1e-4)
    assert_rests(path.sample(np.array([-1.0, path.duration + 1.0])))


def test_no_admissible_change_of_a_waypoint_path_lowers_its_snap():
    """First-order optimality: snap is orthogonal to that of every change that may be made."""
    times = np.array([0.0, 1.0, 2.5, 3.2, 4.5])
    curve = rest_to_rest(times, np.array(WAYPOINTS, dtype=float))
    t = np.linspace(0.0, times[-1], 45_001)
    snap = np.gradient(curve(t)[:, 3], t, axis=0)
    # Zero at the waypoints, and at the ends with three derivatives.
    change = np.polynomial.Polynomial.fromroots([*times, *[0.0] * 3, *[times[-1]] * 3])
    for factor in (np.polynomial.Polynomial([1.0]), np.polynomial.Polynomial([-1.0, 1.0])):
        other = (change * factor).deriv(4)(t)
        for axis in range(3):
            cosine = snap[:, axis] @ other / np.linalg.norm(snap[:, axis]) / np.linalg.norm(other)
            assert abs(cosine) < 1e-3


def test_yaw_along_the_path_is_its_direction_and_turns_smoothly_from_rest():
    for kind in ('lissajous', 'circle', 'gerono', 'tilted_circle'):
        path = make(kind, {'yaw': 'path'})
        assert_derivatives_hold(path, 1e-4)
        samples = path.sample(np.linspace(0.5, path.duration - 0.5, 1001))
        heading = np.arctan2(samples.velocity[:, 1], samples.velocity[:, 0])
        error = np.angle(np.exp(1j * (heading - samples.yaw)))
        assert np.abs(error).max() < 1e-4
        assert_from_rest_to_rest(path)
    upwards = minimum_snap([(0, 0, 0), (0, 0, 3)], yaw='path', fixed_yaw=0.7)
    np.testing.assert_allclose(upwards.sample(np.linspace(0, 3, 9)).yaw, 0.7)


def recorded(n=241):
    """Return times, positions, velocities and accelerations of a circle flown at 2 m/s."""
    t = np.linspace(0, 6, n)
    w = 2.0 / 1.5
    sin, cos = np.sin(w * t), np.cos(w * t)
    position = np.column_stack([1.5 * cos, 1.5 * sin, 1 + 0 * t])
    velocity = np.column_stack([-2.0 * sin, 2.0 * cos, 0 * t])
    return t, position, velocity, np.column_stack([-2 * w * cos, -2 * w * sin, 0 * t])


@pytest.mark.parametrize('derivatives', [0, 1, 2])
def test_points_that_move_from_the_first_on_are_flown_from_rest_to_rest(derivatives):
    t, position, *rates = recorded()
    path = from_points(t + 100.0, position, *rates[:derivatives], yaws=t - 3.0, ramp=1.5)
    assert path.duration == pytest.approx(7.5)
    assert_from_rest_to_rest(path)
    samples = path.sample(np.linspace(0, path.duration, 3001))
    radius = np.linalg.norm(samples.position[:, :2], axis=1)
    assert np.abs(radius - 1.5).max() < 1e-5
    assert peak(samples.velocity) == pytest.approx(2.0, rel=1e-3)
    assert peak(samples.acceleration) < 1.5 * 4 / 1.5
    turned = np.unwrap(np.arctan2(samples.position[:, 1], samples.position[:, 0])) / (2 / 1.5)
    np.testing.assert_allclose(samples.yaw, turned - 3.0, atol=0.02)
    step = from_points([0.0, 2.0], [(0, 0, 1), (1, 0, 1)])
    assert_derivatives_hold(step, 1e-4)


def test_points_are_passed_at_their_times_when_they_rest_at_both_ends():
    times = [5.0, 6.0, 7.5, 9.0]
    points = [(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 2)]
    path = from_points(times, points)
    assert path.duration == pytest.approx(4.0)
    np.testing.assert_allclose(path.sample(np.subtract(times, 5.0)).position, points, atol=1e-9)
    velocities = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 0)]
    path = from_points(times, points, velocities, np.zeros((4, 3)))
    samples = path.sample(np.subtract(times, 5.0))
    np.testing.assert_allclose(samples.velocity[1:3], velocities[1:3], atol=1e-9)
    np.testing.assert_allclose(samples.position, points, atol=1e-9)


def test_given_yaw_turns_the_shorter_way_and_rests_at_both_ends():
    path = minimum_snap(WAYPOINTS[:2], PACE, [3.0, -3.0], 'given')
    samples = path.sample(np.linspace(0, path.duration, 1001))
    assert np.ptp(samples.yaw) == pytest.approx(2 * np.pi - 6.0, abs=1e-6)
    assert abs(samples.yaw_rate[1]) < 0.01
    assert abs(samples.yaw_rate[-2]) < 0.01


def test_yaw_along_waypoints_rests_while_the_vehicle_does():
    path = minimum_snap([(0, 0, 1), (1, 1, 1), (2, -1, 1), (0, -2, 1)], PACE, yaw='path')
    near_ends = path.sample(np.array([1e-3, path.duration - 1e-3]))
    assert np.abs(near_ends.yaw_rate).max() < 0.02


def test_one_point_is_a_hover_there():
    path = from_points([3.0], [(1, 2, 3)], yaws=[0.4])
    assert isinstance(path, Hover)
    assert path.sample(np.zeros(1)).yaw[0] == 0.4


@pytest.mark.parametrize(
    ('points', 'says'),
    [
        ({'times': [], 'positions': np.zeros((0, 3))}, '1 to'),
        ({'times': [0, 1], 'positions': [(0, 0, 0)]}, 'shape 2 x 3'),
        ({'times': [0, 1, 1], 'positions': np.zeros((3, 3))}, 'must increase'),
        ({'times': [0, 2, 1], 'positions': np.zeros((3, 3))}, 'must increase'),
        ({'times': [0, np.nan], 'positions': np.zeros((2, 3))}, 'finite'),
        ({'times': [0, 1], 'positions': [(0, 0, 0), (0, np.inf, 0)]}, 'finite'),
        ({'times': [0, 1], 'positions': [(0, 0, 0), (1e7, 0, 0)]}, 'within'),
        ({'times': np.arange(60_000), 'positions': np.zeros((60_000, 3))}, '1 to 50000'),
        ({'times': [0, 1], 'positions': np.zeros((2, 3)), 'yaws': [0]}, 'yaws'),
        ({'times': [0, 1], 'positions': np.zeros((2, 3)), 'velocities': [0]}, 'velocities'),
        ({'times': [0, 1], 'positions': np.zeros((2, 3)), 'accelerations': [0]}, 'velocities too'),
    ],
)  # fmt: skip
def test_points_that_make_no_path_are_refused(points, says):
    with pytest.raises(ValueError, match=says):
        from_points(**points)


def write_csv(path, names, columns):
    np.savetxt(path, np.column_stack(columns), delimiter=',', header=names, comments='')
    return str(path)


def test_a_file_is_flown_with_what_it_holds(tmp_path):
    t, p, v, a = recorded()
    file = write_csv(tmp_path / 'a.csv', 't,x,y,z,yaw,vx,vy,vz,ax,ay,az', [t, p, t, v, a])
    path = make('file', {'file': file, 'yaw': 'given', 'ramp': 1.0})
    expected = from_points(t, p, v, a, t)
    times = np.linspace(0, 8, 101)
    for one, two in zip(path.sample(times), expected.sample(times), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)
    assert make('file', {'file': file, 'yaw_angle': 0.2}).sample(times).yaw[50] == 0.2


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        (None, 'there is no file'),
        ('', 'first line must name'),
        ('t,x,y\n0,0,0\n', 'first line must name'),
        ('t,x,y,z,vx\n0,0,0,0,0\n', 'first line must name'),
        ('t,x,y,z,w\n0,0,0,0,0\n', 'first line must name'),
        ('t,x,y,z\n0,0,0,abc\n', 'abc'),
        ('t,x,y,z\n0,0,0\n1,0,0\n', '4 columns are named'),
        ('t,x,y,z\n0,0,0,0\n1,0,0,nan\n', 'finite'),
        ('t,x,y,z\n1,0,0,0\n0,0,0,1\n', 'must increase'),
        ('t,x,y,z\n' + '0,0,0,0\n' * 50_001, '1 to 50000'),
        ('t,x,y,z\n' + ' ' * 20_000_000, '20 MB that are allowed'),
        (b'\xff\xfe\x00\x01', 'reference.file'),
    ],
)
def test_a_file_that_holds_no_path_is_refused_by_name(tmp_path, text, says):
    file = tmp_path / 'bad.csv'
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=says) as caught:
        make('file', {'file': str(file)})
    assert str(file) in str(caught.value)


def test_every_kind_can_be_made_and_started_from_anywhere(tmp_path):
    t, p, *_ = recorded()
    file = write_csv(tmp_path / 'a.csv', 't,x,y,z', [t, p])
    for kind in KINDS:
        reference = make(kind, {'file': file, 'waypoints': np.ravel(WAYPOINTS)})
        whole = started_from(reference, (-3, 4, 0.5), 2.0)
        begin = whole.sample(np.zeros(1))
        np.testing.assert_allclose(begin.position, [(-3, 4, 0.5)], atol=1e-9)
        assert np.exp(1j * begin.yaw[0]) == pytest.approx(np.exp(2j))
        assert_rests(begin)
        if np.isfinite(whole.duration):
            assert_derivatives_hold(whole, 1e-3)
            assert_from_rest_to_rest(whole)
        later = np.array([0.7, 1e5])
        handover = whole.first.duration
        for one, two in zip(whole.sample(later + handover), reference.sample(later), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-9)
    assert started_from(reference, reference.sample(np.zeros(1)).position[0]) is reference


@pytest.mark.parametrize(
    ('kind', 'values', 'says'),
    [
        ('spiral', {}, 'reference.kind must be one of'),
        ('circle', {'radius': 1.0}, 'no parameter reference.radius'),
        ('circle', {'size': -1.0}, 'reference.size'),
        ('circle', {'size': [1, 2, 3]}, 'reference.size'),
        ('circle', {'rate': 0.0}, 'reference.rate'),
        ('circle', {'ramp': float('nan')}, 'reference.ramp'),
        ('circle', {'duration': float('inf')}, 'reference.duration'),
        ('circle', {'centre': [0, 0]}, 'reference.centre'),
        ('circle', {'yaw': 'north'}, 'reference.yaw must be'),
        ('circle', {'yaw': 'given'}, 'reference.yaw given'),
        ('tilted_circle', {'tilt': float('nan')}, 'reference.tilt'),
        ('hover', {'yaw_angle': 'x'}, 'reference.yaw_angle'),
        ('step', {'goal': [0, 0, None]}, 'reference.goal'),
        ('step', {'goal': [0, 1e200, 0]}, 'reference.goal must be within'),
        ('step', {'speed': 0}, 'reference.speed'),
        ('waypoints', {}, 'needs 2 to'),
        ('waypoints', {'waypoints': [0, 0, 1, 2]}, 'x, y, z'),
        ('waypoints', {'waypoints': [(0, 0, 1), (1, 2)]}, 'reference.waypoints'),
        ('waypoints', {'waypoints': [(0, 0, 1)] * 2}, 'are the same'),
        ('waypoints', {'waypoints': WAYPOINTS, 'yaw': 'given'}, 'reference.yaws'),
        ('file', {}, 'needs reference.file'),
        ('file', {'file': 5}, 'no file 5'),
        ('file', {'file': '~nobody_here/x.csv'}, 'no file'),
    ],
)  # fmt: skip
def test_values_that_make_no_reference_are_refused_by_name(kind, values, says):
    with pytest.raises(ValueError, match=says):
        make(kind, values)


ENVELOPE = Envelope(a_min=1.0, a_max=18.0, rates_max=(4.0, 4.0, 2.0), speed_max=6.0, tilt_max=1.0)


def test_what_a_vehicle_can_fly_is_said_in_numbers():
    eight = make('lissajous')
    same, found = feasible(eight, Drag(), ENVELOPE)
    assert same is eight
    assert found.ok
    assert '3.39 m/s' in str(found)
    assert '39.8 deg' in str(found)
    assert feasible(Hover((0, 0, 1)), Drag(), ENVELOPE)[1].thrust == (9.81, 9.81)


def test_what_a_vehicle_cannot_fly_is_refused_or_slowed_as_configured():
    quick = make('lissajous', {'rate': 4.0})
    with pytest.raises(ValueError, match=r'speed 8.49 m/s \(at most 6.00\).*tilt.*roll rate'):
        feasible(quick, Drag(), ENVELOPE)
    slowed, found = make_feasible(
        'lissajous', {'rate': 4.0, 'infeasible': 'slow'}, Drag(), ENVELOPE
    )
    assert found.ok
    assert check(slowed, Drag(), ENVELOPE).excesses == []
    faster = check(Slowed(slowed, 0.98), Drag(), ENVELOPE)
    assert not faster.ok  # no slower than it must be
    assert_derivatives_hold(slowed)
    assert_from_rest_to_rest(slowed)
    np.testing.assert_allclose(
        slowed.sample(np.array([3.0 * slowed.factor])).position,
        quick.sample(np.array([3.0])).position,
    )


def test_a_vehicle_that_cannot_even_hover_is_told_so():
    weak = Envelope(a_max=9.0)
    for choice in ('refuse', 'slow'):
        with pytest.raises(ValueError, match=r'thrust .* \(at most 9.00\)'):
            feasible(make('circle'), Drag(), weak, choice)
    with pytest.raises(ValueError, match='refuse or slow'):
        feasible(make('circle'), Drag(), weak, 'ignore')


@pytest.mark.parametrize('limits', [{'a_min': 10.0}, {'tilt_max': 0.3}, {'speed_max': 1.0}])
def test_every_limit_counts(limits):
    assert not check(make('lissajous'), Drag(), Envelope(**limits)).ok
    assert check(make('lissajous'), Drag(), Envelope()).ok
