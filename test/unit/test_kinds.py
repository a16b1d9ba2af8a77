"""Kinds of vehicle: names, errors and attitudes agree, and nobody else counts in their states."""

import re
from pathlib import Path

import numpy as np
import pytest

import hmpc_ros
from hmpc_ros.plant import kinds, rigid_body

EULER = np.array([1.0, -2.0, 3.0, 0.4, 0.5, -0.6, 0.3, -0.2, 2.5, 0.1, -0.7, 0.9])


@pytest.fixture(params=['rotors', 'rates'])
def at(request):
    """A kind and a state of it."""
    if request.param == 'rotors':
        return kinds.ROTORS, EULER
    return kinds.RATES, rigid_body.from_euler(EULER)


def test_names_and_units_go_with_states_and_inputs(at):
    kind, x = at
    assert len(kind.state_names) == len(kind.state_units) == kind.nx == len(x)
    assert len(kind.input_names) == len(kind.input_units) == kind.nu == 4


def test_a_state_moved_by_an_error_differs_by_it(at):
    kind, x = at
    errors = np.random.default_rng(1).uniform(-0.9, 0.9, (5, kind.nd))
    moved = kind.retract(np.tile(x, (5, 1)), errors)
    assert moved.shape == (5, kind.nx)
    assert kind.difference(moved, x) == pytest.approx(errors)


def test_a_heading_of_a_whole_turn_more_is_the_same_one():
    turned = EULER + 2 * np.pi * np.eye(12)[8]
    assert kinds.ROTORS.difference(turned, EULER) == pytest.approx(np.zeros(12))


def test_both_kinds_see_the_same_attitude():
    euler, body = EULER, rigid_body.from_euler(EULER)
    assert kinds.ROTORS.quaternion(euler) == pytest.approx(kinds.RATES.quaternion(body))
    assert kinds.ROTORS.tilt(np.array([euler, euler])) == pytest.approx(
        np.arccos(np.cos(0.3) * np.cos(-0.2))
    )
    assert kinds.RATES.tilt(body) == pytest.approx(kinds.ROTORS.tilt(euler))


@pytest.mark.parametrize('axis', [6, 7])
def test_euler_angles_are_trusted_up_to_a_tilt_and_quaternions_always(axis):
    x = EULER.copy()
    x[axis] = -1.01
    assert kinds.ROTORS.trusted(x, 1.0) == '1.01 rad'
    assert not kinds.ROTORS.trusted(x, 1.02)
    x[axis] = np.nan
    assert kinds.ROTORS.trusted(x, 1.0)
    assert not kinds.RATES.trusted(rigid_body.from_euler(x), 1.0)


# Parts of a state by number: x[6], x[..., 6:9], states[:, 3:6], but no index 0 ... 2.
COUNTED = re.compile(r'(states|state|x|measured|deviations?)\[(:, |\.\.\., )?\d*:?([3-9]|1[0-3])\]')


def test_nobody_but_plant_policy_and_messages_counts_in_states():
    package = Path(hmpc_ros.__file__).parent
    found = [
        f'{path.relative_to(package)}:{number}: {line.strip()}'
        for room in ('learning', 'configuration', 'ros', 'cli', 'studies', 'figures')
        for path in sorted((package / room).rglob('*.py'))
        if path.name != 'conversions.py'  # messages have their own order
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if COUNTED.search(line)
    ]
    assert not found, '\n'.join(found)
