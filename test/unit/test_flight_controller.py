"""The safety ladder around the MPC."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.policy.flight_controller import FlightController, Reason, Safety, Source
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.pilot import LinearPilot
from hmpc_ros.policy.linear.weights import Weights
from hmpc_ros.policy.protocol import SolveStatus

STEP = 100_000_000  # ns
HOVER = np.full(4, 600.0)
SAFETY = Safety(
    state_timeout=0.5,
    max_fallback_steps=3,
    max_hover_steps=4,
    max_tilt=1.0,
    clock_reset_threshold=1.0,
)


@dataclass
class Clock:
    """A monotonic clock that the test turns."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class ScriptedMpc:
    """Stands for the MPC: fails and answers as told. Plan step k is hover + 1 + k."""

    def __init__(self, clock):
        self.model = SimpleNamespace(hover_input=HOVER, time_step=0.1)
        self.limits = Limits()
        self.fails = False
        self.input_offset = 0.0
        self.failed_input = math.nan
        self.takes = 0.001
        self.solves = self.resets = 0
        self._clock = clock

    def solve(self, x, goal):
        self.solves += 1
        self._clock.now += self.takes
        status = SolveStatus.NOT_CONVERGED if self.fails else SolveStatus.SUCCESS
        inputs = 1.0 + np.arange(12.0)[:, None] + np.zeros(4)
        first = HOVER + self.failed_input if self.fails else HOVER + 1.0 + self.input_offset
        return SimpleNamespace(
            status=status,
            ok=status is SolveStatus.SUCCESS,
            input=first,
            inputs=inputs,
            iterations=4,
            total_time=self.takes,
        )

    def reset(self):
        self.resets += 1

    def set_limits(self, limits):
        self.limits = limits


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def mpc(clock):
    return ScriptedMpc(clock)


@pytest.fixture
def pilot(mpc):
    return LinearPilot(mpc, Goal())


@pytest.fixture
def controller(pilot, clock):
    return FlightController(pilot, SAFETY, clock)


def speed(answer):
    """The common speed of all four rotors above hover, None without a command."""
    if answer.command is None:
        return None
    assert np.ptp(answer.command) == 0
    return pytest.approx(answer.command[0] - HOVER[0])


def fly(controller, steps, start=1, state=None):
    state = np.zeros(12) if state is None else state
    return [controller.respond(state, (start + k) * STEP) for k in range(steps)]


def tilted(angle, axis=6):
    state = np.zeros(12)
    state[axis] = angle
    return state


def with_value(value, index=2):
    state = np.zeros(12)
    state[index] = value
    return state


def test_a_valid_state_is_answered_with_the_solution_and_its_stamp(controller):
    (answer,) = fly(controller, 1)
    assert (answer.source, answer.reason, answer.time) == (Source.SOLUTION, Reason.SOLVED, STEP)
    assert speed(answer) == 1.0
    assert answer.solution.ok


def test_there_is_no_command_before_the_first_valid_state(controller, clock, mpc):
    for bad in (with_value(math.nan), with_value(math.inf), tilted(1.1)):
        assert controller.respond(bad, STEP).command is None
    clock.now += 10.0
    assert controller.tick() is None
    assert mpc.solves == 0


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('index', [0, 5, 8, 11])
def test_a_state_that_is_not_finite_is_dropped_and_counted(controller, mpc, value, index):
    fly(controller, 1)
    answer = controller.respond(with_value(value, index), 2 * STEP)
    assert (answer.command, answer.reason) == (None, Reason.NOT_FINITE)
    assert controller.statistics().dropped[Reason.NOT_FINITE] == 1
    assert mpc.solves == 1
    # The stamp was not used up: a good state with it is answered.
    assert controller.respond(np.zeros(12), 2 * STEP).reason is Reason.SOLVED


def test_a_large_but_finite_state_is_a_state(controller):
    assert controller.respond(with_value(1e200), STEP).reason is Reason.SOLVED


def test_a_repeated_stamp_gets_the_same_command_without_a_solve(controller, mpc):
    (first,) = fly(controller, 1)
    mpc.input_offset = 5.0
    again = controller.respond(np.ones(12) * 0.1, STEP)
    assert again.reason is Reason.REPEATED_STAMP
    np.testing.assert_array_equal(again.command, first.command)
    assert mpc.solves == 1
    assert controller.statistics().repeats == 1


def test_a_repeated_stamp_gets_the_same_command_also_after_a_fallback_in_between(controller, clock):
    (first,) = fly(controller, 1)
    clock.now += 0.7
    fallback = controller.tick()
    assert fallback.time != STEP  # it must not pass for the answer to the state
    again = controller.respond(np.zeros(12), STEP)
    np.testing.assert_array_equal(again.command, first.command)


def test_a_repeated_state_does_not_count_as_a_new_one(controller, clock):
    fly(controller, 1)
    for _ in range(6):
        clock.now += 0.1
        controller.respond(np.zeros(12), STEP)
    assert controller.tick().reason is Reason.STATE_TIMEOUT


def test_an_answer_belongs_to_the_caller(controller):
    fly(controller, 1)
    again = controller.respond(np.zeros(12), STEP)
    again.command[:] = math.nan
    assert np.isfinite(controller.respond(np.zeros(12), STEP).command).all()


def test_a_stamp_that_goes_back_is_dropped_and_counted(controller, mpc):
    fly(controller, 5)
    answer = controller.respond(np.zeros(12), 4 * STEP)
    assert (answer.command, answer.reason) == (None, Reason.STAMP_WENT_BACK)
    assert controller.statistics().dropped[Reason.STAMP_WENT_BACK] == 1
    assert mpc.solves == 5
    assert controller.respond(np.zeros(12), 6 * STEP).reason is Reason.SOLVED


def test_a_stamp_that_goes_back_a_long_way_begins_a_new_run(controller, mpc):
    fly(controller, 20)
    answer = controller.respond(np.zeros(12), STEP)
    assert answer.reason is Reason.SOLVED
    assert mpc.resets == 1
    assert controller.statistics().new_runs == 1


def test_the_plan_of_an_earlier_run_is_not_flown(controller, mpc):
    fly(controller, 20)
    mpc.fails = True
    answer = controller.respond(np.zeros(12), STEP)
    assert answer.source is Source.HOVER


def test_a_clock_that_restarts_after_a_short_flight_locks_nobody_out(controller, clock):
    fly(controller, 3)
    assert controller.respond(np.zeros(12), STEP).command is None
    clock.now += 0.6
    assert controller.respond(np.zeros(12), STEP).reason is Reason.SOLVED


@pytest.mark.parametrize('axis', [6, 7])
@pytest.mark.parametrize('sign', [-1, 1])
def test_beyond_max_tilt_the_model_is_not_asked_and_the_ladder_flies(controller, mpc, axis, sign):
    fly(controller, 1)
    answers = fly(controller, 9, start=2, state=tilted(sign * 1.01, axis))
    assert mpc.solves == 1
    assert {answer.reason for answer in answers} == {Reason.TILT}
    assert [speed(answer) for answer in answers] == [2, 3, 4, 0, 0, 0, 0, None, None]
    assert controller.statistics().tilts == 9
    assert controller.respond(tilted(0.99 * sign, axis), 20 * STEP).reason is Reason.SOLVED


def test_yaw_is_not_tilt(controller):
    assert controller.respond(tilted(3.0, axis=8), STEP).reason is Reason.SOLVED


def test_failed_solves_fly_the_shifted_plan_then_hover_then_nothing(controller, mpc):
    fly(controller, 2)
    mpc.fails = True
    answers = fly(controller, 10, start=3)
    assert [speed(answer) for answer in answers] == [2, 3, 4, 0, 0, 0, 0, None, None, None]
    sources = [Source.PLAN] * 3 + [Source.HOVER] * 4 + [Source.NOTHING] * 3
    assert [answer.source for answer in answers] == sources
    assert {answer.reason for answer in answers} == {Reason.SOLVE_FAILED}
    assert controller.silent
    counted = controller.statistics()
    assert counted.failures == 10
    assert counted.fallbacks[Reason.SOLVE_FAILED] == 7
    assert counted.silences == 1


@pytest.mark.parametrize('failed_input', [math.nan, 1.0])
def test_the_input_of_a_failed_solve_is_not_flown(controller, mpc, failed_input):
    mpc.fails, mpc.failed_input = True, failed_input
    (answer,) = fly(controller, 1)
    assert (speed(answer), answer.solution) == (0, None)


def test_an_input_that_is_not_finite_is_not_flown_whatever_the_status_says(controller, mpc):
    mpc.input_offset = math.nan
    (answer,) = fly(controller, 1)
    assert (answer.source, answer.reason) == (Source.HOVER, Reason.SOLVE_FAILED)


def test_a_first_solve_that_fails_has_no_plan_and_hovers(controller, mpc):
    mpc.fails = True
    answers = fly(controller, 5)
    assert [answer.source for answer in answers] == [Source.HOVER] * 4 + [Source.NOTHING]


def test_a_plan_is_not_flown_beyond_its_end(mpc, clock):
    safety = Safety(max_fallback_steps=1000, max_hover_steps=1)
    controller = FlightController(LinearPilot(mpc, Goal()), safety, clock)
    fly(controller, 1)
    mpc.fails = True
    answers = fly(controller, 13, start=2)
    assert [answer.source for answer in answers[-3:]] == [Source.PLAN, Source.HOVER, Source.NOTHING]
    assert sum(answer.source is Source.PLAN for answer in answers) == 11


def test_states_at_twice_the_rate_do_not_use_up_the_plan_twice_as_fast(controller, mpc):
    fly(controller, 1)
    mpc.fails = True
    answers = [controller.respond(np.zeros(12), STEP + k * STEP // 2) for k in range(1, 10)]
    assert [speed(answer) for answer in answers] == [1, 2, 2, 3, 3, 4, 0, 0, 0]


@pytest.mark.parametrize('failures', [1, 4, 9])
def test_a_successful_solve_ends_the_ladder_at_any_rung(controller, mpc, failures):
    fly(controller, 1)
    mpc.fails = True
    fly(controller, failures, start=2)
    mpc.fails = False
    (recovered,) = fly(controller, 1, start=20)
    assert (recovered.source, recovered.reason) == (Source.SOLUTION, Reason.SOLVED)
    assert not controller.silent
    mpc.fails = True
    again = fly(controller, 8, start=21)
    assert [speed(answer) for answer in again] == [2, 3, 4, 0, 0, 0, 0, None]


def test_states_that_stop_coming_lead_down_the_ladder(controller, clock):
    fly(controller, 1)
    clock.now += 0.45
    assert controller.tick() is None
    answers = []
    for _ in range(9):
        clock.now += 0.1
        answers.append(controller.tick())
    # The plan has moved on while the controller waited: its sixth input (step 5) is the present's.
    assert [speed(answer) for answer in answers] == [6, 7, 8, 0, 0, 0, 0, None, None]
    assert {answer.reason for answer in answers} == {Reason.STATE_TIMEOUT}
    counted = controller.statistics()
    assert counted.timeouts == 1
    assert counted.fallbacks[Reason.STATE_TIMEOUT] == 7
    assert counted.state_age == pytest.approx(1.351, abs=1e-2)
    assert controller.respond(np.zeros(12), 30 * STEP).reason is Reason.SOLVED
    assert controller.tick() is None


def test_a_timer_with_jitter_gives_no_rung_a_command_too_many(controller, clock):
    fly(controller, 1)
    received = clock.now
    sources = []
    for k in range(12):
        clock.now = received + 0.6 + 0.1 * k + (-0.02 if k % 2 else 0.02)
        sources.append(controller.tick().source)
    assert sources.count(Source.PLAN) <= 3
    assert sources.count(Source.HOVER) <= 4
    assert sources[-1] is Source.NOTHING


def test_a_jump_of_the_stamps_is_no_timeout_and_hides_none(controller, clock):
    fly(controller, 1)
    clock.now += 0.1
    assert controller.respond(np.zeros(12), 3600 * 10 * STEP).reason is Reason.SOLVED
    assert controller.tick() is None
    clock.now += 0.6
    assert controller.tick().reason is Reason.STATE_TIMEOUT


def test_after_a_reset_a_valid_state_comes_first_again(controller, clock):
    fly(controller, 1)
    controller.reset()
    clock.now += 1.0
    assert controller.tick() is None
    # Not taken for a repetition of the state before the reset.
    assert controller.respond(np.zeros(12), STEP).reason is Reason.SOLVED


def test_commands_stay_inside_limits_that_change_in_flight(controller, pilot, mpc):
    mpc.input_offset = 100.0
    (answer,) = fly(controller, 1)
    assert np.all(answer.command == 630.0)
    pilot.set_limits(Limits(rotor_min=595.0, rotor_max=601.0))
    assert np.all(controller.respond(np.zeros(12), STEP).command == 601.0)
    mpc.fails = True
    assert np.all(fly(controller, 1, start=3)[0].command == 601.0)


def test_an_answer_that_takes_longer_than_a_step_is_a_missed_deadline(controller, mpc):
    fly(controller, 2)
    mpc.takes = 0.11
    fly(controller, 1, start=3)
    counted = controller.statistics()
    assert counted.missed_deadlines == 1
    assert counted.solve_time_median == pytest.approx(0.001)
    assert 0.1 < counted.solve_time_p99 <= 0.11


def test_discarded_messages_are_counted_by_reason(controller):
    answer = controller.discard(Reason.WRONG_FRAME, STEP, 'why')
    assert (answer.command, answer.reason, answer.detail) == (None, Reason.WRONG_FRAME, 'why')
    assert controller.statistics().dropped[Reason.WRONG_FRAME] == 1


def test_statistics_are_a_copy(controller):
    before = controller.statistics()
    controller.discard(Reason.WRONG_FRAME, STEP)
    fly(controller, 1)
    assert before.dropped[Reason.WRONG_FRAME] == before.states == 0
    assert math.isnan(before.solve_time_median)
    assert before.state_age == math.inf


@pytest.mark.parametrize(
    'setting',
    [
        {'state_timeout': 0.0},
        {'state_timeout': math.nan},
        {'max_fallback_steps': -1},
        {'max_hover_steps': -1},
        {'max_tilt': 1.6},
        {'clock_reset_threshold': -1.0},
    ],
)
def test_settings_without_a_ladder_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Safety(**setting)


@pytest.fixture(scope='module')
def real_mpc():
    model = Quadcopter(QuadcopterParameters()).linearise()
    weights = Weights.for_model(model, [1.0] * 6 + [math.sqrt(0.1)] * 6, [0.1] * 4)
    return Mpc(model, Limits(), weights)


def test_whatever_comes_in_the_real_mpc_commands_are_finite_and_inside_the_limits(real_mpc):
    real_mpc.reset()
    clock = Clock()
    controller = FlightController(LinearPilot(real_mpc, Goal((-6.0, -3.5, 0.0))), Safety(), clock)
    rng = np.random.default_rng(3)
    scales = [0.1, 1.0, 1e2, 1e4, 1e8, 1e160, math.nan]
    sources = set()
    for k in range(300):
        state = rng.normal(size=12) * scales[rng.integers(len(scales))]
        state[6:9] = rng.uniform(-1.2, 1.2, 3)
        answer = controller.respond(state, k * STEP)
        sources.add(answer.source)
        if answer.command is not None:
            assert np.all((answer.command >= 0.0) & (answer.command <= 630.0))
    assert {Source.SOLUTION, Source.PLAN, Source.HOVER} <= sources


def test_after_a_failure_the_real_mpc_flies_on_as_if_nothing_had_been(real_mpc):
    goal, state = Goal((-6.0, -3.5, 0.0)), np.zeros(12)
    real_mpc.reset()
    expected = real_mpc.solve(state, goal).input.copy()
    controller = FlightController(LinearPilot(real_mpc, goal), Safety(), Clock())
    controller.respond(state, STEP)
    failed = controller.respond(with_value(1e200), 2 * STEP)
    assert (failed.source, failed.reason) == (Source.PLAN, Reason.SOLVE_FAILED)
    answer = controller.respond(state, 3 * STEP)
    assert answer.source is Source.SOLUTION
    np.testing.assert_allclose(answer.command, expected, atol=1e-4)


def stream(controller, clock, stamps, period=0.1):
    """Send states at the pace of the clock, stamped as given [s]; return the answers."""
    answers = []
    for stamp in stamps:
        clock.now += period
        answers.append(controller.respond(np.zeros(12), round(stamp * 1e9)))
    return answers


@pytest.mark.parametrize('ahead', [0.25, 0.7, 5.0])
@pytest.mark.parametrize('count', [1, 3])
def test_stamps_that_run_ahead_lock_no_good_state_out(controller, clock, mpc, ahead, count):
    clock.now = 100.0
    stream(controller, clock, [10.1, 10.2, 10.3])
    late = [10.4 + 0.1 * k + ahead for k in range(count)]
    rest = [10.4 + 0.1 * (count + k) for k in range(20)]
    answers = stream(controller, clock, [*late, *rest])
    assert {answer.reason for answer in answers} == {Reason.SOLVED}
    counted = controller.statistics()
    assert (counted.ran_ahead, counted.new_runs, mpc.resets) == (1, 0, 0)


def test_a_state_that_was_overtaken_is_still_dropped(controller, clock):
    answers = stream(controller, clock, [10.1, 10.2, 10.4, 10.3, 10.5])
    assert answers[3].reason is Reason.STAMP_WENT_BACK
    # Nor is it taken for new when the one that overtook it had run ahead: it is from before that.
    stream(controller, clock, [10.6, 11.4])
    assert stream(controller, clock, [10.6])[0].reason is Reason.STAMP_WENT_BACK


@pytest.fixture
def stamped(mpc, clock):
    """A controller whose states are stamped by the node's clock, which the test sets, too."""
    node_clock = SimpleNamespace(offset=1_700_000_000.0)

    def respond(age=0.0, after=0.1):
        clock.now += after
        stamp = round((clock.now + node_clock.offset - age) * 1e9)
        return controller.respond(np.zeros(12), stamp)

    controller = FlightController(
        LinearPilot(mpc, Goal()), SAFETY, clock, lambda: clock.now + node_clock.offset
    )
    return SimpleNamespace(controller=controller, respond=respond, clock=node_clock)


def test_states_that_are_old_by_their_stamps_are_not_flown(stamped, clock):
    assert stamped.respond(age=0.7).reason is Reason.TOO_OLD
    assert stamped.respond(age=0.2).reason is Reason.SOLVED
    assert stamped.controller.statistics().age_by_stamp
    assert stamped.controller.statistics().state_age == pytest.approx(0.2, abs=0.01)
    reasons = [stamped.respond(age=0.7).reason for _ in range(20)]
    assert set(reasons[1:]) == {Reason.TOO_OLD}
    assert stamped.controller.tick().reason is Reason.STATE_TIMEOUT
    assert stamped.respond(age=0.1).reason is Reason.SOLVED


def test_the_timeout_counts_from_the_stamp(stamped, clock):
    stamped.respond(age=0.3)
    clock.now += 0.15
    assert stamped.controller.tick() is None
    clock.now += 0.1
    assert stamped.controller.tick().reason is Reason.STATE_TIMEOUT


@pytest.mark.parametrize('age', [1e9, -1e9, -5.0, 60.0])
def test_stamps_of_another_clock_are_new_when_they_arrive(stamped, age):
    assert {stamped.respond(age=age).reason for _ in range(20)} == {Reason.SOLVED}
    assert not stamped.controller.statistics().age_by_stamp
    assert stamped.controller.statistics().state_age == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize('jump', [-5.0, -0.4, 0.6, 5.0, 1e6])
@pytest.mark.parametrize('stamps_too', [False, True])
def test_a_node_clock_that_is_set_in_flight_makes_no_state_old(stamped, jump, stamps_too):
    stamped.respond()
    stamped.clock.offset += jump
    age = 0.0 if stamps_too else jump  # of stamps that another computer's clock makes
    reasons = [stamped.respond(age).reason for _ in range(20)]
    if stamps_too and jump == -0.4:
        reasons = reasons[3:]  # they went back
    if stamps_too and jump == -5.0:
        assert stamped.controller.statistics().new_runs == 1
    assert set(reasons) == {Reason.SOLVED}
