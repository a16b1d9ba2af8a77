"""What commands are told apart by."""

import pytest

from hmpc_ros.configuration.signature import FLOWN, signature
from hmpc_ros.configuration.tables import CONTROLLER

VALUES = {name: parameter.default for name, parameter in CONTROLLER.items()}


def test_all_that_may_change_in_flight_takes_part_but_the_lease():
    free = {name for name, parameter in CONTROLLER.items() if not parameter.read_only}
    assert {'tracking.position', 'tracking.drag', 'reference.begin'} <= set(FLOWN)
    assert {'policy.q', 'policy.model', 'goal.yaw', 'limits.rates', 'max_tilt'} <= set(FLOWN)
    assert all(name.startswith('policy.') for name in free - set(FLOWN))
    assert signature({**VALUES, 'policy.lease': 2.0}) == signature(VALUES)


@pytest.mark.parametrize('name', ['goal.yaw', 'max_tilt', 'limits.rotor_max'])
def test_the_last_bit_of_any_of_them_is_told(name: str):
    other = {**VALUES, name: VALUES[name] + 1e-13}
    assert signature(other) != signature(VALUES)
    assert len(signature(other)) == 16
    assert signature({**other, name: VALUES[name]}) == signature(VALUES)
