"""The record of a flight is whole, or says what is missing."""

import numpy as np
import pytest

from hmpc_ros.ros.flight_log import FlightLog, IncompleteFlightError, start_stamp

START, STEP = 12_300_000_000, 100_000_000


def state(k: int) -> np.ndarray:
    return np.full(12, float(k))


def command(k: int) -> np.ndarray:
    return np.full(4, 100.0 + k)


def fill(log: FlightLog, *, without_states: tuple = (), without_inputs: tuple = ()) -> None:
    for k in range(log.steps + 1):
        if k not in without_states:
            log.add_state(START + k * STEP, state(k), arrival=k)
        if k not in without_inputs:
            log.add_input(START + k * STEP, command(k), arrival=k + 0.25)


def test_matches_states_and_commands_by_stamp_in_any_order():
    log = FlightLog(3, 0.1)
    log.begin(START)
    for k in (2, 0, 3, 1):
        log.add_input(START + k * STEP, command(k), arrival=k + 0.25)
        assert not log.complete
    for k in (3, 1, 0, 2):
        log.add_state(START + k * STEP, state(k), arrival=k)
    assert log.complete
    flight = log.flight()
    assert flight.states[:, 0].tolist() == [0, 1, 2, 3]
    assert flight.inputs[:, 0].tolist() == [100, 101, 102]
    assert flight.answer_times.tolist() == [0.25, 0.25, 0.25]
    assert flight.times == pytest.approx([0, 0.1, 0.2, 0.3])
    assert log.problems() == []


def test_messages_that_overtake_the_answer_to_reset_are_kept():
    log = FlightLog(3, 0.1)
    log.add_state(START - STEP, state(-1))
    fill(log)
    assert not log.complete
    log.begin(START)
    assert log.complete
    assert log.flight().states[0, 0] == 0


def test_messages_outside_the_flight_are_ignored():
    log = FlightLog(2, 0.1)
    log.begin(START)
    for k in (-2, -1, 3, 9):
        log.add_state(START + k * STEP, state(k))
        log.add_input(START + k * STEP, command(k))
    log.add_input(START + 2 * STEP, command(2))
    assert log.steps_recorded == 0
    fill(log)
    assert log.flight().states[:, 0].tolist() == [0, 1, 2]


def test_missing_messages_are_named():
    log = FlightLog(10, 0.1)
    log.begin(START)
    fill(log, without_states=(4,), without_inputs=(2, 3, 4, 5, 6, 7))
    assert log.over
    assert not log.complete
    with pytest.raises(IncompleteFlightError) as caught:
        log.flight()
    assert '1 of 11 states are missing: step 4' in str(caught.value)
    assert '6 of 10 commands are missing: step 2, 3, 4, 5, 6 and 1 more' in str(caught.value)


def test_a_missing_command_can_be_held_but_a_missing_state_cannot():
    log = FlightLog(4, 0.1)
    log.begin(START)
    fill(log, without_inputs=(2,))
    flight = log.flight(hold_missing=True)
    assert flight.held == (2,)
    assert flight.inputs[:, 0].tolist() == [100, 101, 101, 103]
    log = FlightLog(4, 0.1)
    log.begin(START)
    fill(log, without_states=(2,))
    with pytest.raises(IncompleteFlightError):
        log.flight(hold_missing=True)


def test_repeats_are_counted_and_contradictions_refused():
    log = FlightLog(2, 0.1)
    log.begin(START)
    fill(log)
    log.add_state(START + STEP, state(1))
    log.add_input(START + STEP, command(1))
    log.add_input(START + STEP, command(1))
    flight = log.flight()
    assert (flight.repeated_states, flight.repeated_inputs) == (1, 2)
    log.add_input(START + STEP, command(7))
    with pytest.raises(IncompleteFlightError, match='do two nodes publish'):
        log.flight()


def test_another_time_step_is_noticed():
    log = FlightLog(4, 0.1)
    log.begin(START)
    for k in range(9):
        log.add_state(START + k * STEP // 2, state(k))
    assert 'is time_step the same everywhere?' in '; '.join(log.problems())
    assert log.problems()[-1].startswith('4 messages')


def test_a_flight_that_never_started_says_so():
    assert FlightLog(4, 0.1).problems() == ['the flight has not started: no first stamp is known']
    with pytest.raises(IncompleteFlightError, match='has not started'):
        FlightLog(4, 0.1).flight()


@pytest.mark.parametrize(('steps', 'time_step'), [(0, 0.1), (-1, 0.1), (3, 0.0), (3, -0.1)])
def test_impossible_flights_are_refused(steps: int, time_step: float):
    with pytest.raises(ValueError, match='step'):
        FlightLog(steps, time_step)


def test_start_stamp_is_exact_to_the_nanosecond():
    assert start_stamp('flight 3 starts at 12.300000000') == START
    assert start_stamp('flight 0 starts at 1700000000.000000001') == 1_700_000_000_000_000_001
    with pytest.raises(ValueError, match='does not end with a stamp'):
        start_stamp('no such flight')


def test_the_signatures_of_a_flight_are_those_of_its_commands_alone():
    log = FlightLog(2, 0.1)
    log.add_input(START - STEP, command(0), signature='before')
    log.add_input(START, command(0), signature='lent')
    log.begin(START)
    log.add_input(START + 2 * STEP, command(2), signature='after')
    assert log.signatures == {'lent'}
    log.add_input(START + STEP // 2, command(1))  # of somebody else, at a time of its own
    assert log.signatures == {'lent', ''}


def test_a_leap_over_a_step_is_named_and_the_record_refused():
    log = FlightLog(steps=3, time_step=0.1)
    log.begin(0)
    for step in (0, 1):
        log.add_state(step * STEP, np.zeros(12))
        log.add_input(step * STEP, np.zeros(4))
    assert log.hole is None
    log.add_state(3 * STEP, np.zeros(12))
    assert log.hole == 2
    assert log.over
    with pytest.raises(IncompleteFlightError, match='leaps over step 2: did somebody else reset'):
        log.flight(hold_missing=True)
