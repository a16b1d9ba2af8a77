from dataclasses import replace

import numpy as np
import pytest
from reference_flight import ReferenceFlight

from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.policy.flight import resolve
from hmpc_ros.policy.flight_controller import Safety
from hmpc_ros.policy.linear.flight_file import load_flight, save_flight
from hmpc_ros.policy.linear.flying import _fly_guarded
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.protocol import SolveStatus


@pytest.fixture(scope='module')
def reference():
    return ReferenceFlight()


def test_the_reference_flight_has_the_check_values(reference):
    outcome = reference.objective.cost(reference.fly())
    assert outcome.C == pytest.approx(1090.1707, abs=5e-5)
    assert outcome.V == pytest.approx(0.375559, abs=5e-7)


def test_flying_with_and_without_the_shortcut_is_the_same_flight(reference):
    solved = ReferenceFlight(shortcut=False).fly()
    assert np.abs(reference.fly().states - solved.states).max() < 1e-8


def test_the_same_request_gives_the_same_flight_bit_for_bit():
    noisy = ReferenceFlight(steps=40, process_noise_std=(1e-3,) * 12)
    flyer = noisy.flyer
    first = flyer(FlightRequest(noisy.start, NOMINAL, number=3))
    other = flyer(FlightRequest(noisy.start, NOMINAL, number=4))
    again = flyer(FlightRequest(noisy.start, NOMINAL, number=3))
    assert np.array_equal(first.states, again.states)
    assert not np.array_equal(first.states, other.states)


def test_solutions_are_kept_only_when_asked_for(reference):
    flyer = reference.flyer
    start = reference.start
    assert len(flyer(FlightRequest(start, NOMINAL, with_solutions=True)).solutions) == 200
    assert flyer(FlightRequest(start, NOMINAL)).solutions == ()


def test_resolving_a_flight_finds_the_solutions_that_were_flown(reference):
    flight = reference.fly()
    again = resolve(flight, reference.mpc)
    flown = np.array([solution.inputs for solution in flight.solutions])
    assert np.abs(np.array([s.inputs for s in again]) - flown).max() < 1e-6


def test_a_turned_goal_is_the_same_flight_turned():
    # The vehicle's symmetry: goal and start turned by 90 degrees about the vertical.
    straight = ReferenceFlight(steps=60)
    turned = ReferenceFlight(steps=60, goal=Goal((3.5, -6.0, 0.0), np.pi / 2))
    turned.x0 = turned.goal.world(straight.goal.deviation(straight.x0))
    assert np.allclose(turned.x0[:3], 0)
    flights = straight.fly(), turned.fly()
    costs = [r.objective.cost(f).J for r, f in zip((straight, turned), flights, strict=True)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def test_it_is_the_flight_of_the_controller_that_flies_over_ros(reference):
    flight = reference.fly()
    reference.vehicle.reset(reference.x0, 0)
    reference.mpc.reset()
    guarded = _fly_guarded(
        reference.vehicle, reference.mpc, reference.goal, 200, Safety(), keep_solutions=True
    )
    assert np.array_equal(flight.states, guarded.states)
    assert np.array_equal(flight.inputs, guarded.inputs)


def test_a_failed_solve_flies_the_plan_before_it(reference, monkeypatch):
    solve, calls = reference.mpc.solve, []

    def fail_once(x, goal):
        solution = solve(x, goal)
        calls.append(x)
        # The flight is tried without the ladder first, and flown again with it.
        failing = np.array_equal(x, tenth)
        return replace(solution, status=SolveStatus.NOT_CONVERGED) if failing else solution

    whole = reference.fly()
    tenth = whole.states[10]
    monkeypatch.setattr(reference.mpc, 'solve', fail_once)
    flight = reference.fly()
    assert flight.failed_steps == (10,)
    assert flight.complete
    assert len(flight.solutions) == 199
    plan = whole.solutions[9].inputs[1] + flight.hover_input
    assert np.allclose(flight.inputs[10], np.clip(plan, 0, 630))
    assert np.array_equal(flight.states[:11], whole.states[:11])


def test_a_flight_ends_where_the_controller_gives_up(reference):
    reference.vehicle.quadcopter, kept = _Exploding(reference.quadcopter), reference.quadcopter
    try:
        flight = reference.fly()
    finally:
        reference.vehicle.quadcopter = kept
    assert not flight.complete
    assert 'no command' in flight.ended
    assert len(flight.states) == len(flight.inputs) + 1
    assert not reference.objective.cost(flight).finite


class _Exploding:
    """A vehicle whose state becomes NaN."""

    def __init__(self, quadcopter):
        self.time_step, self.hover_input = quadcopter.time_step, quadcopter.hover_input

    def step(self, x, u, force):
        return np.full(12, np.nan)


def test_a_flight_survives_its_file(tmp_path, reference):
    flight = reference.fly()
    save_flight(flight, tmp_path / 'flight.npz')
    loaded = load_flight(tmp_path / 'flight.npz')
    assert np.array_equal(loaded.states, flight.states)
    assert np.array_equal(loaded.inputs, flight.inputs)
    assert loaded.goal == flight.goal
    assert loaded.complete


def test_a_file_that_is_no_flight_is_named(tmp_path):
    file = tmp_path / 'other.npz'
    np.savez(file, A=np.eye(2))
    with pytest.raises(ValueError, match=r'other\.npz'):
        load_flight(file)
