"""``hmpc fly`` with the tracking MPC: real flights, their numbers, and refusals in sentences."""

import json

import numpy as np
import pytest

from hmpc_ros.cli import main
from hmpc_ros.configuration import build_tracking, files
from hmpc_ros.plant import presets
from hmpc_ros.plant.reference.factory import KINDS, make
from hmpc_ros.policy.tracking import flying
from hmpc_ros.policy.tracking.performance import settling, steady_end, tracking
from hmpc_ros.share import config_dir

TRACKING = config_dir() / 'tracking.yaml'


@pytest.fixture
def fly(tmp_path):
    """Fly by the command line; return the numbers of --json and the arrays."""

    def run(*words: str) -> tuple[dict, dict]:
        out = tmp_path / 'numbers.json'
        code = main.main(
            ['fly', '--offline', '--config', 'tracking', '--json', str(out),
             '--out', str(tmp_path), *words]
        )  # fmt: skip
        assert code == 0
        assert (tmp_path / 'flight.png').stat().st_size > 50_000
        with np.load(tmp_path / 'flight.npz') as arrays:
            return json.loads(out.read_text()), dict(arrays)

    return run


def sets(**values) -> list[str]:
    return [
        word
        for name, value in values.items()
        for word in ('--set', f'{name.replace("__", ".")}={value}')
    ]


@pytest.mark.parametrize('backend', ['model', 'rotorpy'])
def test_an_eight_is_flown_and_told_in_numbers(fly, backend):
    numbers, arrays = fly('--steps', '500', *sets(simulator__backend=backend))
    assert numbers['C'] is None
    assert numbers['V'] is None
    assert numbers['tracking.rmse_after_s'] == 3.0
    assert numbers['tracking.rmse_until_s'] == 5.0
    assert numbers['failures'] == numbers['fallbacks'] == 0
    errors = arrays['states'][300:, :3] - arrays['reference_position'][300:]
    assert numbers['tracking.rmse_m'] == pytest.approx(np.sqrt((errors**2).sum(1).mean()))
    assert numbers['tracking.max_m'] == pytest.approx(np.sqrt((errors**2).sum(1)).max())
    np.testing.assert_allclose(numbers['tracking.axes_m'], np.sqrt((errors**2).mean(0)))
    assert numbers['tracking.rmse_m'] < 0.06
    assert 0 < numbers['solve_ms.median'] <= numbers['solve_ms.p99']


def test_a_step_settles_without_overshoot(fly):
    numbers, arrays = fly(*sets(simulator__preset='hummingbird', reference__kind='step'))
    left = np.linalg.norm(arrays['states'][:, :3] - [2.0, 0.0, 1.0], axis=1)
    for distance, name in ((0.05, 'settle_5cm_s'), (0.02, 'settle_2cm_s')):
        at = round(numbers[name] / 0.01)
        assert left[at:].max() <= distance < left[at - 1]
    assert numbers['settle_5cm_s'] < 1.5
    assert numbers['settle_2cm_s'] < 1.8
    assert numbers['overshoot'] < 0.05


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (sets(reference__kind='topic'), 'there is none to listen to'),
        (sets(reference__rate=6.0), 'the vehicle cannot fly this reference'),
        (sets(simulator__preset='dragonfly'), 'vehicles are cf21b, crazyflie'),
        (sets(reference__kind='waypoints'), 'needs 2 to 200 points'),
        (sets(simulator__mass_scale=-1), 'mass_scale must be at least'),
        (sets(refrence__kind='step'), "there is no node 'refrence'"),
        (sets(reference__kund='step'), "did you mean 'reference.kind'"),
    ],
)
def test_what_cannot_be_flown_is_refused(words, message, tmp_path, capsys):
    code = main.main(['fly', '--offline', '--config', 'tracking', '--out', str(tmp_path), *words])
    assert code == 1
    assert message in capsys.readouterr().err


def test_the_controller_keeps_the_nominal_numbers_whatever_the_truth():
    plain = files.load(TRACKING)
    truth = files.load(TRACKING, ['simulator.mass_scale=1.2', 'simulator.drag_scale=2.0'])
    assert build_tracking.simulator(truth['simulator']).conditions.mass_scale == 1.2
    for configuration in (plain, truth):
        preset = build_tracking.assumed(configuration)
        known = build_tracking.parameters(configuration['controller'], preset)
        np.testing.assert_array_equal(known.drag, presets.load('crazyflie').model.drag)
        np.testing.assert_array_equal(known.thrust_lag, presets.load('crazyflie').model.thrust_lag)
    given = files.load(TRACKING, ['tracking.drag=[0.1, 0.2, 0.3]', 'tracking.limits.thrust_max=15'])
    controller, preset = given['controller'], build_tracking.assumed(given)
    np.testing.assert_array_equal(
        build_tracking.parameters(controller, preset).drag, [0.1, 0.2, 0.3]
    )
    assert build_tracking.limits(controller, preset).thrust_max == 15.0


@pytest.mark.parametrize('kind', sorted(set(KINDS) - {'waypoints', 'file'}))
def test_every_kind_of_reference_comes_from_the_configuration(kind):
    configuration = files.load(TRACKING, [f'reference.kind={kind}'])
    reference, _ = build_tracking.reference(configuration)
    t = np.linspace(0.0, 15.0, 31)
    np.testing.assert_array_equal(reference.sample(t).position, make(kind).sample(t).position)


def flown(positions, time_step=0.1):
    """Return a flight to (2, 0, 0) whose x is given."""
    n = len(positions)
    states = np.zeros((n, 13))
    states[:, 0], states[:, 6] = positions, 1.0
    path = make('step', {'centre': (0, 0, 0), 'goal': (2, 0, 0), 'speed': 100.0})
    reference = path.sample(np.concatenate([[0.0], np.full(n - 1, 99.0)]))
    nothing = np.zeros((n - 1, 5))
    return flying.TrackedFlight(
        time_step, states, states, nothing[:, :4], reference, nothing, (), (), (),
        nothing[:, 0], n - 1,
    )  # fmt: skip


def test_settling_counts_from_when_the_vehicle_stays():
    settled = settling(flown([0.0, 1.97, 2.2, 2.03, 1.97, 1.99, 2.0]))
    assert settled.within_5cm == pytest.approx(0.3)
    assert settled.within_2cm == pytest.approx(0.5)
    assert settled.overshoot == pytest.approx(0.1)
    never = settling(flown([0.0, 1.0, 1.9, 2.0, 1.9]))
    assert never.within_5cm is None
    assert never.overshoot == 0.0


def test_errors_are_counted_where_they_should_be():
    flight = flown([0.0, 1.0, 1.9, 2.1, 2.0])
    errors = tracking(flight, 0.15, 0.35)
    assert errors.rmse == pytest.approx(0.1)
    assert tracking(flight, 5.0).after == 0.0  # a flight that is shorter counts as a whole
    assert tracking(flight, 0.05).largest == pytest.approx(1.0)
    assert steady_end(make('lissajous')) == 12.0
    assert steady_end(make('hover')) == np.inf
