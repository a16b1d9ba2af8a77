"""Arming and take-off: asked for until seen, given up when somebody else decides."""

from hmpc_ros.autopilots.take_off import Step, TakeOff
from hmpc_ros.autopilots.takeover import Situation


class Vehicle:
    """One whose arming and climb are asked for."""

    def __init__(self):
        self.asked: list[str] = []
        self.situation = Situation(connected=True, mode='position')
        self.take_off = TakeOff(
            (
                Step('armed motors', lambda: self.asked.append('arm'), lambda s: s.armed),
                Step(
                    'its height', lambda: self.asked.append('climb'),
                    lambda s: s.position is not None and s.position[2] > 1.8, ('takeoff',),
                ),
            ),
            self.situation,
        )  # fmt: skip

    def go_on(self, seconds: float, **changes) -> 'Vehicle':
        for name, value in changes.items():
            setattr(self.situation, name, value)
        for _ in range(round(seconds / 0.02)):
            self.situation.time += 0.02
            self.take_off.update(self.situation)
        return self


def test_each_step_is_asked_for_until_it_is_seen():
    vehicle = Vehicle().go_on(2.5)
    assert vehicle.asked == ['arm'] * 3
    vehicle.go_on(1.5, armed=True, mode='takeoff')
    assert vehicle.asked == ['arm'] * 3 + ['climb'] * 2
    vehicle.go_on(0.1, position=(0.0, 0.0, 2.0))
    assert (vehicle.take_off.running, vehicle.take_off.words) == (False, 'in the air')
    vehicle.go_on(5.0, armed=False)
    assert len(vehicle.asked) == 5  # nothing more, whatever happens


def test_it_gives_up_and_asks_for_nothing_more():
    for changes, words in (
        ({'mode': 'altitude'}, 'somebody chose altitude'),
        ({'armed': False}, 'disarmed'),
        ({'failsafe': True}, 'failsafe'),
        ({'connected': False}, 'silent'),
    ):
        vehicle = Vehicle().go_on(1.0, armed=True, mode='takeoff')
        count = len(vehicle.asked)
        vehicle.go_on(5.0, **changes)
        assert not vehicle.take_off.running
        assert words in vehicle.take_off.words
        assert len(vehicle.asked) == count
    vehicle = Vehicle().go_on(30.0)
    assert vehicle.take_off.words == 'given up: no armed motors within 10 s'
    assert len(vehicle.asked) <= 11
