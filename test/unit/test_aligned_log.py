"""Flights over stamps that keep no grid, read at the control periods in between."""

import numpy as np
import pytest

from hmpc_ros.ros.aligned_log import HOLE, AlignedLog
from hmpc_ros.ros.flight_log import FlightLog, IncompleteFlightError

FIRST, STEP, STEPS = 1_790_000_000_123_456_789, 10_000_000, 200


def position(time: float) -> np.ndarray:
    return np.array([np.sin(time), time, 1.0])


def state(stamp: int) -> np.ndarray:
    """Return a state at a stamp: a smooth path, a turn about z."""
    time = 1e-9 * (stamp - FIRST)
    turned = [np.cos(0.8 * time), 0.0, 0.0, np.sin(0.8 * time)]
    return np.concatenate([position(time), [np.cos(time), 1.0, 0.0], turned, np.zeros(3)])


def command(stamp: int) -> np.ndarray:
    return np.full(4, 1e-9 * (stamp - FIRST))


def jittered(seed: int = 0) -> list[int]:
    """Return stamps some 10 ms apart, from before the flight to after it."""
    gaps = np.random.default_rng(seed).integers(7_000_000, 14_000_000, size=STEPS + 60)
    return (FIRST - 150_000_000 + np.cumsum(gaps)).tolist()


def fill(log, stamps: list[int], signature: str = 'a') -> None:
    for stamp in stamps:
        log.add_state(stamp, state(stamp), 1e-9 * (stamp - FIRST))
        log.add_input(stamp, command(stamp), 1e-9 * (stamp - FIRST) + 0.004, signature)


def test_states_are_interpolated_and_commands_hold():
    log, stamps = AlignedLog(STEPS, 0.01), jittered()
    fill(log, stamps[:40])  # before it is known where it begins
    assert not log.over
    log.begin(FIRST)
    fill(log, stamps[40:])
    assert log.complete
    flight = log.flight()
    assert (flight.start, flight.states.shape, flight.inputs.shape) == (FIRST, (201, 13), (200, 4))
    times = 0.01 * np.arange(STEPS + 1)
    wanted = np.array([position(time) for time in times])
    np.testing.assert_allclose(flight.states[:, :3], wanted, atol=3e-5)
    np.testing.assert_allclose(np.linalg.norm(flight.states[:, 6:10], axis=1), 1.0)
    held = [max(s for s in stamps if s <= FIRST + k * STEP) for k in range(STEPS + 1)]
    assert log.stamps(STEPS + 1) == held
    np.testing.assert_array_equal(flight.inputs[:, 0], [command(s)[0] for s in held[:-1]])
    assert log.signatures == {'a'}
    assert np.median(log.answer_times) == pytest.approx(0.004)


def test_the_sign_of_a_quaternion_is_no_turn():
    log = AlignedLog(STEPS, 0.01)
    log.begin(FIRST)
    for k, stamp in enumerate(jittered()):
        flipped = state(stamp)
        flipped[6:10] *= (-1) ** k
        log.add_state(stamp, flipped)
        log.add_input(stamp, command(stamp))
    q = log.flight().states[:, 6:10]
    assert np.abs(np.diff(q, axis=0)).max() < 0.01


def test_on_a_grid_it_is_what_a_flight_log_records():
    logs = AlignedLog(STEPS, 0.01), FlightLog(STEPS, 0.01)
    for log in logs:
        log.begin(FIRST)
        fill(log, [FIRST + k * STEP for k in range(STEPS + 1)])
        assert log.complete
    ours, grid = (log.flight() for log in logs)
    np.testing.assert_allclose(ours.states, grid.states, atol=1e-15)
    np.testing.assert_array_equal(ours.inputs, grid.inputs)
    assert logs[0].stamps(STEPS + 1) == logs[1].stamps(STEPS + 1)


def test_a_hole_is_told_and_not_learned_from():
    log, stamps = AlignedLog(STEPS, 0.01), jittered()
    log.begin(FIRST)
    hole = FIRST + 500_000_000, FIRST + 500_000_000 + round(1e9 * HOLE) + 20_000_000
    fill(log, [stamp for stamp in stamps if not hole[0] < stamp < hole[1]])
    assert log.over
    assert not log.complete
    assert log.hole in (50, 51)
    with pytest.raises(IncompleteFlightError, match=r'no state came for more than 0\.1 s, 1 times'):
        log.flight()
    states, inputs = log.beginning()  # for people, the rest is there
    assert (len(states), len(inputs)) == (STEPS + 1, STEPS)
    assert np.isfinite(states).all()


def test_it_waits_for_the_last_command_and_says_what_is_missing():
    log, stamps = AlignedLog(STEPS, 0.01), jittered()
    assert log.problems() == ['the flight has not started: no first stamp is known']
    log.begin(FIRST)
    early = [stamp for stamp in stamps if stamp < FIRST + (STEPS - 5) * STEP]
    fill(log, early)
    assert log.problems() == [f'states reach to step {log.steps_recorded} of {STEPS}']
    assert log.steps_recorded in range(STEPS - 7, STEPS - 4)
    assert len(log.beginning()[1]) == log.steps_recorded
    for stamp in stamps:
        log.add_state(stamp, state(stamp))
    assert log.over
    assert not log.complete
    for stamp in stamps:
        log.add_input(stamp, command(stamp), signature='b' if stamp > early[-1] else 'a')
    assert log.complete
    assert log.signatures == {'a', 'b'}


def test_a_flight_that_begins_before_anything_is_heard_is_not_whole():
    log = AlignedLog(STEPS, 0.01)
    log.begin(FIRST)
    assert log.beginning()[0].size == 0
    fill(log, [stamp for stamp in jittered() if stamp > FIRST + STEP])
    assert log.hole == 0
    assert 'no command was in force as the flight began' in log.problems()
