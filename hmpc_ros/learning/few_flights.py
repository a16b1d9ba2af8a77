"""The default rule: learn from a handful of flights.

Every iteration flies one candidate (weights, and sometimes a prediction model for the MPC),
learns a surrogate of the plant from it (``hmpc_ros.plant.surrogate``), judges it by what it cost,
and plans the next candidate:

* a **step** from the best point of the present descent: the composite model of the cost
  (``composite.py``) with the surrogate's Jacobians, damped as much as a *rehearsal* on the
  surrogate (``rehearsal.py``) and the last flights say;
* a **refresh**: the surrogate's linearisation at hover becomes the MPC's model, with the weights as
  they are or with those of its Riccati equation;
* a **kick**: a random change of the weights, where a descent has come to an end. It needs no model,
  so it is also what is left when the surrogate explains nothing.

What is handed over is the *incumbent*: the best candidate whose own flights prove it. Where flights
are noisy, their noise is taken out by the surrogate (a rehearsal without it) before they are
compared, and an incumbent is flown again before it may replace the last one that was: until its
flights tell that it is better than the start, beyond the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.composite import CompositeModel
from hmpc_ros.learning.few_flights_state import (
    EXCURSION,
    REFRESH,
    START,
    STEP,
    VERIFICATION,
    Point,
    State,
)
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.objective import mean_outcome
from hmpc_ros.learning.rehearsal import Rehearsal
from hmpc_ros.learning.requests import NOMINAL, PERTURBED, Evaluation, FlightRequest
from hmpc_ros.learning.rules import Step
from hmpc_ros.plant.declared import about
from hmpc_ros.policy.flight import Flight, resolve
from hmpc_ros.policy.protocol import MissingDerivativeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hmpc_ros.learning.objective import Objective, Outcome
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.plant.protocol import PlantModel
    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import DeviationPolicy


@dataclass(frozen=True)
class Settings:
    """Settings of the rule."""

    probes: int = field(
        default=3,
        metadata=about(
            'flights under slightly perturbed weights before the first step', low=0, high=100
        ),
    )
    probe_size: float = field(
        default=0.05, metadata=about('length of their perturbation of theta', low=1e-9)
    )
    rehearsals: int = field(
        default=2,
        metadata=about(
            'rehearsals on the surrogate per iteration at most; they cost computing time, no '
            'flights',
            low=1,
            high=20,
        ),
    )
    damping: float = field(
        default=0.01,
        metadata=about(
            "Marquardt damping of the first step, in units of the model's curvature", low=1e-9
        ),
    )
    refresh: bool = field(
        default=True,
        metadata=about("whether the MPC's prediction model may be learned along with its weights"),
    )
    kick: float = field(
        default=0.3,
        metadata=about('length of the random change of theta that ends a standstill', low=1e-9),
    )
    repeats: int = field(
        default=3,
        metadata=about(
            'flights that verify the best weights where flights are noisy', low=1, high=100
        ),
    )


# Steps that promise less than this share of J are rehearsed once only, or not at all: composite
# models are as good as rehearsals there (but for noise).
WORTH_REHEARSING_TWICE, WORTH_REHEARSING = 1e-3, 3e-4
# A step is flown when its rehearsal shows this share of the decrease that the composite model
# predicts, and the damping is made smaller when the flight shows GOOD of it.
ACCEPTABLE, GOOD, NOTHING = 0.3, 0.5, 0.1
LOOSER, TIGHTER, UNREHEARSED, AFTER_REJECTION = 0.3, 3.0, 10.0, 4.0
DAMPING_AFTER_EXCURSION = 0.1
# A descent is over after so many rejections, or when a step promises less than this share of J: the
# smaller, the more excursions in a row have led to nothing.
REJECTIONS, WORTHWHILE, LEAST_WORTHWHILE = 3, 1e-3, 2e-5
# An excursion that is this much worse than the incumbent is not followed.
HOPELESS, RISKY, SMALLER = 1.5, 1.1, 0.3
# Refreshes at the start go on while the last one brought J below this share.
HELPFUL, MAX_REFRESHES_AT_START = 0.95, 6
# Share of the predicted changes of J that must come true, or the surrogate explains nothing.
TRUST_WARNING, FLIGHTS_TO_JUDGE = 0.1, 5
MEMORY = 0.7  # how much a flight counts in that which is one flight older
# Differences of measured means beyond so many standard deviations are real.
SIGNIFICANT = 1.0
# As many for what is handed over after a single flight; and how often an incumbent is verified at
# most, until it is told from the start.
SURE, MAX_ROUNDS = 2.0, 3
# What is left of a cost's standard deviation when its noise has been taken out.
DOUBT, DOUBT_ELSEWHERE, WORTHWHILE_IN_NOISE = 0.1, 1.0, 0.02
# What third differences need, to tell noise from.
_FEWEST_STEPS = 8
# How much of the average of a descent's weights is kept from step to step.
AVERAGING = 0.7
# Where flights are noisy, bounds are tightened by so many standard deviations of the noise.
TIGHTENING = 0.5
# How much a flight of a descent counts that is one flight older, and how many of them are as
# believable as the surrogate.
FADING, FLIGHTS_THAT_TELL = 0.9, 1.0


@dataclass(eq=False)
class FewFlightsRule:
    """See the module's description.

    Attributes:
        policy: The learner's own copy of the controller's.
        objective: What a flight costs.
        start: What the run starts with.
        surrogate: Makes a model of the plant that has learned nothing yet.
        settings: How the rule goes about it.
        tasks: Number of tasks (starts and goals); the objective is the mean over them.
        tasks_at_once: How many of them an iteration flies, at random; 0: all. The others are
            rehearsed, and flown when an incumbent is verified.
    """

    policy: DeviationPolicy
    objective: Objective
    start: Parameters
    surrogate: Callable[[], PlantModel]
    settings: Settings = field(default_factory=Settings)
    tasks: int = 1
    tasks_at_once: int = 0

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, learn from it, judge it, and plan the next one."""
        session = _Session(self, k, policy, memory, rng)
        verifying = session.progress.kind == VERIFICATION
        repeats = self.settings.repeats if verifying and session.progress.noisy else 1
        chosen = np.arange(self.tasks)
        if self.partial and session.progress.kind == STEP:
            chosen = np.sort(rng.choice(self.tasks, self.tasks_at_once, replace=False))
        requests = [
            FlightRequest(policy, NOMINAL, with_solutions=True, task=int(task))
            for _ in range(repeats)
            for task in chosen
        ]
        nominal = len(requests)
        if k == 0:
            for i in range(self.settings.probes):
                probe = _moved(policy, self.settings.probe_size, _direction(policy, rng))
                requests.append(FlightRequest(probe, PERTURBED, task=i % self.tasks))
        flown = yield requests
        doubtful = session.to_be_repeated(flown)
        again = [] if doubtful is None else (yield [doubtful.request])
        return session.digest(flown[:nominal], [*flown[nominal:], *again])

    @property
    def partial(self) -> bool:
        """Whether an iteration flies some of the tasks only."""
        return 0 < self.tasks_at_once < self.tasks


class _Session(State):
    """One iteration of the rule: what it knew, what it is told, what it decides."""

    def __init__(
        self,
        rule: FewFlightsRule,
        k: int,
        candidate: Parameters,
        memory: Memory,
        rng: np.random.Generator,
    ) -> None:
        self.rule, self.k, self.rng = rule, k, rng
        self.candidate = candidate  # what this iteration flies
        self.settings = rule.settings
        self.policy, self.objective = rule.policy, rule.objective
        self.rehearsed = 0  # rehearsals of this iteration so far
        self.change = np.nan  # of J by the candidate, as measured
        self.notes: list[str] = []
        self._repeated: Evaluation | None = None  # the flight that was flown again for its noise
        super().__init__(rule.start, rule.surrogate(), rule.tasks, memory)
        self.noisy = self.progress.noisy
        if not memory:
            self.progress.damping = rule.settings.damping

    # -- the iteration -------------------------------------------------------------------------

    def to_be_repeated(self, flown: list[Evaluation]) -> Evaluation | None:
        """Return the flight to fly again to learn how noisy it is; None where that is known.

        It is where a flight ends in hover; a task that never does needs a pair of flights, once.
        """
        whole = [e for e in flown if e.outcome.finite and e.flight.steps > _FEWEST_STEPS]
        hovers, state_max = self.noise.hovers, self.rule.objective.state_max
        calm = any(hovers(e.flight.deviations, state_max) for e in whole)
        if calm or self.noise.known or not whole:
            return None
        self._repeated = whole[0]
        return whole[0]

    def digest(self, nominal: list[Evaluation], probes: list[Evaluation]) -> Step:
        """Learn from the flights, judge the candidate, plan the next."""
        explained = self._learn([*nominal, *probes])
        flights, outcome = self._complete(nominal)
        lead = Evaluation(nominal[0].request, nominal[0].flight, outcome)
        accepted, reason = self._judge(flights, outcome)
        if self.k == 0 and self.noisy and self.incumbent is not None:
            self._measure_start(self.incumbent, [*nominal, *probes])
        best = self._best
        if accepted and best is not None and best.k != self.k:
            accepted, reason = False, 'better so far, but not verified yet'
        details = {
            'measured_change': self.change,
            'predicted_change': self.progress.predicted,
            'trust': self.progress.trust,
            'damping': self.progress.damping,
            'surrogate_explains': explained,
            'best_J': best.J if best else None,
            'best_k': best.k if best else None,
        }
        candidate = self._plan()
        if candidate is None:
            reason = f'no weights were found that fly: {reason}'
            return Step(lead, self.candidate, accepted=False, reason=reason, diverged=True)
        return Step(
            lead,
            candidate,
            accepted=accepted,
            reason=reason,
            memory=self.memory(),
            details=details,
            notes=tuple(self.notes),
        )

    @property
    def _best(self) -> Point | None:
        """What is handed over: the incumbent, where it needs to be verified the last that was."""
        doubtful = self.noisy or self.rule.partial
        return self.verified if doubtful and self.verified is not None else self.incumbent

    def _learn(self, evaluations: list[Evaluation]) -> float | None:
        """Learn the plant and its noise from flights; return how well they had been predicted."""
        explained = self._learn_plant(evaluations)
        state_max = self.rule.objective.state_max
        for evaluation in evaluations:
            flight = evaluation.flight
            if evaluation.outcome.finite:
                if self.noise.hovers(flight.deviations, state_max):
                    self.noise.learn(
                        self.surrogate.residuals(flight.deviations, flight.input_deviations)
                    )
                self.add_start(evaluation.request.task, flight.deviations[0])
        again = evaluations[-1]
        if self._repeated is not None and again.outcome.finite:
            self.noise.compare(
                *(
                    self.surrogate.residuals(flight.deviations, flight.input_deviations)
                    for flight in (self._repeated.flight, again.flight)
                )
            )
        self.noisy = self.noise.matters(state_max)
        if self.noisy and not self.surrogate.instrumented:
            # What was learned as if there were no noise is not worth keeping.
            self.surrogate = self.rule.surrogate()
            self._learn_plant(evaluations)
        self.progress.noisy = self.noisy
        if self.noisy:
            # Without noise, or with what the surrogate makes of it, no bound may be relied on to
            # the last digit: keep away from them.
            margin = TIGHTENING * np.sqrt(self.noise.variance[self.objective.bounded])
            self.objective = replace(
                self.rule.objective, state_max=np.maximum(state_max - margin, 0.5 * state_max)
            )
        return float(np.mean(explained)) if explained else None

    def _measure_start(self, point: Point, evaluations: list[Evaluation]) -> None:
        """Take what the start costs, and its scatter, from the flights of the first iteration.

        Probes are all but the start: noise changes their costs more than the perturbation does.
        """
        progress = self.progress
        costs = [e.outcome.J for e in evaluations if e.outcome.finite]
        if self.rule.tasks == 1 and len(costs) > 1:
            point.measured, point.flights = float(np.mean(costs)), len(costs)
            progress.start_variance = float(np.var(costs, ddof=1))
        progress.start_J, progress.start_flights = point.measured, point.flights
        self.verified = point

    def _learn_plant(self, evaluations: list[Evaluation]) -> list[float]:
        """Learn the plant from flights; return which shares of them had been predicted."""
        explained = []
        for evaluation in evaluations:
            flight = evaluation.flight
            if not flight.steps:
                continue
            prediction = self.surrogate.add(
                flight.deviations,
                flight.input_deviations,
                self._expected(evaluation) if self.noisy else None,
            )
            if prediction is not None:
                explained.append(prediction.explained)
        return explained

    def _expected(
        self, evaluation: Evaluation
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return a flight as the surrogate would have it without noise; None where it crashes."""
        request, flight = evaluation.request, evaluation.flight
        self.policy.use(request.parameters)
        start = self._start(request.task) if self.starts[request.task, -1] else flight.deviations[0]
        nothing = np.zeros_like(flight.deviations[1:])
        expected = Rehearsal(self.surrogate.predictor(), start, nothing).fly(self.policy)
        if not expected.complete:
            return None
        return expected.deviations, expected.input_deviations

    def _start(self, task: int) -> NDArray[np.float64]:
        """Return the mean of the states that the flights of a task began with."""
        return np.asarray(self.starts[task, :-1] / self.starts[task, -1])

    def _complete(self, nominal: list[Evaluation]) -> tuple[list[Flight], Outcome]:
        """Return a flight of each task and the mean cost; tasks not flown now are rehearsed."""
        flights: dict[int, Flight] = {}
        outcomes = [evaluation.outcome for evaluation in nominal]
        for evaluation in nominal:
            flights.setdefault(evaluation.request.task, evaluation.flight)
        if len(flights) < self.rule.tasks and mean_outcome(outcomes).finite:
            origin = self.base or self.incumbent
            assert origin is not None
            self.policy.use(self.candidate)
            for task, rehearsal in enumerate(self._rehearsals(origin)):
                if task not in flights:
                    flights[task] = rehearsal.fly(self.policy, True)
                    outcomes.append(self.objective.cost(flights[task]))
        return [flights[task] for task in sorted(flights)], mean_outcome(outcomes)

    def _judge(self, flights: list[Flight], outcome: Outcome) -> tuple[bool, str]:
        """Decide what the flown candidate becomes: base of the descent, incumbent, or nothing."""
        progress = self.progress
        point = None
        if outcome.finite:
            point = self._point(self.candidate, flights, outcome.J)
        if point is not None and progress.kind == VERIFICATION and self.noisy:
            point.flights = self.settings.repeats
        if self.noisy:
            self._take_noise_out([point, self.base, self.incumbent, self.verified])
            if point is not None:
                self._learn_excess(point)
        J = np.inf if point is None else point.J
        if progress.kind == VERIFICATION:
            return self._verify(point)
        self._measure_trust(point)
        accepted = point is not None and (
            self.incumbent is None or self._is_better(point, self.incumbent)
        )
        if progress.kind == STEP:
            assert self.base is not None
            ratio = (J - self.base.J) / progress.composite
            if ratio > GOOD:
                progress.damping *= LOOSER
            progress.rejections = progress.rejections + 1 if not ratio > NOTHING else 0
            if point is not None and J < self.base.J:
                point.average = AVERAGING * self.base.average + (1 - AVERAGING) * point.theta
                self.base = point
            else:
                progress.damping *= AFTER_REJECTION
        elif progress.kind == EXCURSION:
            best = self.incumbent.J if self.incumbent else np.inf
            self.base = point if J < HOPELESS * best else None
        elif accepted:
            self.base = point
        if accepted:
            self.incumbent = point
            progress.fruitless = progress.rounds = 0
            if self._surely_better_than_start(point):
                self.verified = point
            return True, ''
        if point is None:
            return False, _objection(flights)
        assert self.incumbent is not None
        return False, f'the objective {J:.4f} is not below the best, {self.incumbent.J:.4f}'

    def _verify(self, again: Point | None) -> tuple[bool, str]:
        """Keep the incumbent that was flown again, or go back to the last one that was verified."""
        incumbent = self.incumbent
        assert incumbent is not None
        progress = self.progress
        if again is not None and progress.rounds == 0:
            # Only now all of its tasks have been flown, or its average.
            again.excess, again.judged = incumbent.excess, incumbent.judged
            self.incumbent = incumbent = again
        elif again is not None:
            flights = incumbent.flights + again.flights
            total = incumbent.flights * incumbent.measured + again.flights * again.measured
            incumbent.measured, incumbent.flights, incumbent.k = total / flights, flights, self.k
        progress.rounds += 1
        better = again is not None and (not self.noisy or self._better_than_start(incumbent))
        if better is None:
            return False, f'{incumbent.flights} flights do not tell it from the start: flown again'
        progress.rounds = 0
        if not better or self._is_worse(incumbent, self.verified):
            self.incumbent = self.verified
            return False, (
                f'flown {incumbent.flights} times, the objective is {incumbent.measured:.4f} on '
                'average: no better than before'
            )
        self.verified = incumbent
        return True, ''

    def _plan(self) -> Parameters | None:
        """Choose what to fly next; None when nothing flies."""
        if self.incumbent is None or self._refreshing():
            candidate = self._refresh_at_start()
            if candidate is not None or self.incumbent is None:
                return candidate
        while True:
            if self.base is None:
                doubtful = self.noisy or self.rule.partial
                if doubtful and self.incumbent is not self.verified:
                    return self._verification()
                if self.noisy:
                    self._resume()
            if self.base is None:
                return self._excursion()
            candidate = self._step(self.base)
            if candidate is not None:
                return candidate
            self.base = None

    # -- candidates ----------------------------------------------------------------------------

    def _step(self, base: Point) -> Parameters | None:
        """Plan a step of the descent; None when it has come to its end."""
        progress = self.progress
        if progress.rejections >= REJECTIONS:
            return None
        try:
            model = self._composite(base)
        except MissingDerivativeError as error:
            self.notes.append(str(error))
            return None
        rehearsals = self._rehearsals(base)
        worthwhile = max(WORTHWHILE * 0.5**progress.fruitless, LEAST_WORTHWHILE) * base.J
        if self.noisy:
            worthwhile = WORTHWHILE_IN_NOISE * np.sqrt(progress.scatter)
        spare = max(1, self.settings.rehearsals - self.rehearsed)
        for rehearsal in range(spare + 1):
            try:
                d = model.step(progress.damping)
            except ValueError as error:
                self.notes.append(str(error))
                return None
            candidate = _moved(base.parameters, 1.0, d)
            expected = model.change(candidate.theta - base.theta)
            if not expected < -worthwhile:
                return None
            if not expected < -WORTH_REHEARSING_TWICE * base.J:
                spare = 1
            if not self.noisy and not expected < -WORTH_REHEARSING * base.J:
                spare = 0
            predicted = expected
            if rehearsal >= spare:
                break
            predicted = self._rehearse(rehearsals, candidate) - base.J
            if predicted < ACCEPTABLE * expected:
                if not predicted < -worthwhile:
                    return None
                break
            progress.damping *= UNREHEARSED if rehearsal + 1 == spare else TIGHTER
        self._expect(STEP, predicted, expected)
        return candidate

    def _composite(self, base: Point) -> CompositeModel:
        """Return the composite model of the mean cost at a point.

        Raises:
            MissingDerivativeError: the MPC has no derivative somewhere along its flights.
        """
        flights = [self._flight(base, task) for task in range(self.rule.tasks)]
        self.policy.use(base.parameters)
        if self.noisy:
            # Linearise the flights as they would have been without their noise.
            flights = [rehearsal.fly(self.policy, True) for rehearsal in self._rehearsals(base)]
        models = []
        for flight in flights:
            policy = self.policy.differentiate(flight.solutions or resolve(flight, self.policy))
            plant = self.surrogate.augmented_jacobians_along(flight.deviations[:-1], flight.inputs)
            sensitivity = forward_sensitivity(
                policy.state_gain, policy.jacobian(), *plant, dtype=np.float32
            )
            models.append(CompositeModel.of_flight(flight, sensitivity, self.objective))
        return CompositeModel.mean(models)

    def _refreshing(self) -> bool:
        """Whether the start is still being sought: refreshes go on while they help much."""
        progress = self.progress
        if not self.settings.refresh or progress.refreshes >= MAX_REFRESHES_AT_START:
            return False
        assert self.incumbent is not None
        if progress.kind == START or not self._flies(self.incumbent):
            return True
        return progress.kind == REFRESH and self.incumbent.J < HELPFUL * progress.best_before

    def _flies(self, point: Point) -> bool:
        """Whether the flights of a point ended in hover, as they should."""
        state_max = self.rule.objective.state_max
        return all(self.noise.hovers(states, state_max) for states in point.states)

    def _refresh_at_start(self) -> Parameters | None:
        """Plan to fly the refitted model, with old weights or its own, if it rehearses better."""
        progress, incumbent, start = self.progress, self.incumbent, self.rule.start
        if progress.refreshes >= MAX_REFRESHES_AT_START or not self.settings.refresh:
            return None
        progress.refreshes += 1
        progress.descents += 1
        progress.descent = progress.descents
        refitted = self.policy.refit(
            start if incumbent is None else incumbent.parameters, self.surrogate
        )
        candidates = [refitted]
        try:
            candidates.insert(0, self.policy.retune(refitted, start))
        except ValueError as error:
            self.notes.append(str(error))
        if incumbent is None or not self._flies(incumbent):
            # There is nothing to lose, and no rehearsal of such flights is worth much.
            progress.best_before = np.inf
            self._expect(REFRESH, np.nan)
            return _moved(candidates[0])
        best, best_J, rehearsals = None, incumbent.J, self._rehearsals(incumbent)
        for candidate in candidates:
            J = self._rehearse(rehearsals, candidate)
            if J < best_J:
                best, best_J = candidate, J
        if best is None:
            return None
        progress.best_before = incumbent.J
        self._expect(REFRESH, best_J - incumbent.J)
        return _moved(best)

    def _resume(self) -> None:
        """Go on from the incumbent, every other time: the surrogate knows more than it did then."""
        progress, incumbent = self.progress, self.incumbent
        assert incumbent is not None
        progress.resumed = not progress.resumed
        if progress.resumed:
            self.base = incumbent
            progress.descent = incumbent.descent
            progress.damping, progress.rejections = DAMPING_AFTER_EXCURSION, 0

    def _excursion(self) -> Parameters:
        """Plan to leave the incumbent: towards the refitted model or by a kick, in turns.

        Where it leads is rehearsed, not flown: what is flown is the first step of a descent from
        there.
        """
        progress, incumbent = self.progress, self.incumbent
        assert incumbent is not None
        refresh = self.settings.refresh and progress.excursions % 2 == 0
        progress.excursions += 1
        progress.fruitless += 1
        progress.descents += 1
        progress.descent = progress.descents
        progress.damping, progress.rejections = DAMPING_AFTER_EXCURSION, 0
        start, share = incumbent.parameters, 1.0
        rehearsals, direction = self._rehearsals(incumbent), _direction(start, self.rng)
        for _ in range(self.settings.rehearsals):
            if refresh:
                candidate = _between(start, self.policy.refit(start, self.surrogate), share)
            else:
                candidate = _moved(start, share * self.settings.kick, direction)
            self.policy.use(candidate)
            flights = [rehearsal.fly(self.policy, True) for rehearsal in rehearsals]
            self.rehearsed += 1
            J = float(np.mean([self.objective.cost(flight).J for flight in flights]))
            if J < RISKY * incumbent.J:
                self.base = self._point(candidate, flights, J)
                step = self._step(self.base) if self.base is not None else None
                if step is not None:
                    return step
                break
            share *= SMALLER
        self._expect(EXCURSION, J - incumbent.J)
        return candidate

    def _verification(self) -> Parameters:
        """Plan to fly the incumbent again."""
        assert self.incumbent is not None
        self._expect(VERIFICATION, np.nan)
        # Noise throws the points of a descent about; their average is thrown about less.
        incumbent = self.incumbent
        return incumbent.parameters.with_theta(
            incumbent.average if self.noisy else incumbent.theta
        )

    def _expect(self, kind: str, predicted: float, composite: float = np.nan) -> None:
        self.progress.kind = kind
        self.progress.predicted, self.progress.composite = predicted, composite

    # -- rehearsals ----------------------------------------------------------------------------

    def _rehearsals(self, point: Point) -> list[Rehearsal]:
        """Prepare rehearsals of all tasks around the flights of a point."""
        predictor = self.surrogate.predictor()
        rehearsals = []
        for task, (states, inputs) in enumerate(zip(point.states, point.inputs, strict=True)):
            if self.noisy:
                start, residuals = self._start(task), np.zeros_like(states[1:])
            else:
                start, residuals = states[0], self.surrogate.residuals(states, inputs)
            rehearsals.append(Rehearsal(predictor, start, residuals))
        return rehearsals

    def _rehearse(self, rehearsals: list[Rehearsal], policy: Parameters) -> float:
        """Return the mean cost of the tasks under a policy, as rehearsed."""
        self.policy.use(policy)
        self.rehearsed += 1
        costs = [self.objective.cost(rehearsal.fly(self.policy)).J for rehearsal in rehearsals]
        return float(np.mean(costs))

    # -- noise ---------------------------------------------------------------------------------

    def _take_noise_out(self, points: list[Point | None]) -> None:
        """Set J of points to what their flights had cost without noise, for all we know now."""
        seen: list[Point] = []
        for point in points:
            if point is not None and not any(point is other for other in seen):
                J = self._rehearse(self._rehearsals(point), point.parameters)
                # What runs away without noise but did not with it is beyond the surrogate.
                point.J = J if np.isfinite(J) else point.measured
                seen.append(point)

    def _learn_excess(self, point: Point) -> None:
        """Learn what noise, and errors of the surrogate, add to the costs of a descent."""
        progress, excess = self.progress, point.measured - point.J
        known = next(
            (p for p in (self.base, self.incumbent) if p and p.descent == point.descent), None
        )
        if known is None:
            point.excess, point.judged = excess, 1.0
            return
        surprise = excess - known.excess
        point.judged = FADING * known.judged + 1.0
        point.excess = known.excess + surprise / point.judged
        progress.denoised += 1
        share = max(0.1, 1 / progress.denoised)
        progress.scatter += share * (
            surprise**2 * known.judged / (known.judged + 1) - progress.scatter
        )

    def _is_better(self, point: Point, other: Point) -> bool:
        """Whether a point's cost is lower than another's, for all that is known of the noise."""
        gain, doubt = other.J - point.J, DOUBT
        if not self.noisy:
            return gain > 0
        if point.descent != other.descent:
            # What two descents cost beyond what they should has more than noise in it: the errors
            # of the surrogate. Flights tell, the more the surer.
            lag = point.excess - other.excess
            flights = 1.0 / (1.0 / point.judged + 1.0 / other.judged)
            gain -= lag * flights / (flights + FLIGHTS_THAT_TELL)
            doubt = DOUBT_ELSEWHERE
        return bool(gain > doubt * np.sqrt(self.progress.scatter))

    def _is_worse(self, point: Point, other: Point | None) -> bool:
        """Whether the measured costs of a point are worse than another's beyond the noise."""
        if other is None:
            return False
        if not self.noisy:
            return point.measured > other.measured
        beyond = SIGNIFICANT * self._spread(point.flights, other.flights)
        return point.measured > other.measured + beyond

    def _better_than_start(self, point: Point) -> bool | None:
        """Whether the measured costs of a point prove it better than the start; None: not yet.

        This is what keeps a number of losses, each within the noise, from adding up.
        """
        progress = self.progress
        if not np.isfinite(progress.start_J):
            return True
        gain = progress.start_J - point.measured
        if gain > SIGNIFICANT * self._spread(point.flights, progress.start_flights):
            return True
        return None if gain > 0 and progress.rounds < MAX_ROUNDS else False

    def _surely_better_than_start(self, point: Point | None) -> bool:
        """Whether a single flight is proof enough, while there is nothing but the start."""
        if not self.noisy or point is None or self.verified is None or self.verified.k > 0:
            return False
        spread = self._spread(point.flights, self.verified.flights)
        return bool(point.measured < self.verified.measured - SURE * spread)

    def _spread(self, flights: int, others: int) -> float:
        """Return the standard deviation of the difference of two means of measured costs."""
        variance = max(self.progress.scatter, self.progress.start_variance)
        return float(np.sqrt(variance * (1 / flights + 1 / others)))

    # -- trust ---------------------------------------------------------------------------------

    def _measure_trust(self, point: Point | None) -> None:
        """Compare the change of J that was predicted with the one that was measured."""
        progress = self.progress
        origin = self.base if progress.kind == STEP else self.incumbent
        if point is None or origin is None:
            return
        self.change = point.measured - origin.measured
        if not np.isfinite(progress.predicted):
            return
        # What noise alone adds to a squared difference of measured costs.
        noise = progress.scatter * (1 / point.flights + 1 / origin.flights) if self.noisy else 0.0
        surprise = (self.change - progress.predicted) ** 2
        progress.surprise = MEMORY * progress.surprise + surprise - noise
        progress.change = MEMORY * progress.change + self.change**2 - noise
        progress.judged += 1
        trust = progress.trust
        if trust is None or trust > TRUST_WARNING or progress.judged < FLIGHTS_TO_JUDGE:
            progress.warned = False
        elif not progress.warned:
            progress.warned = True
            self.notes.append(
                f'the surrogate explains {100 * trust:.0f} % of how J changes from flight to '
                'flight: its steps are hardly better than random ones'
            )

    # -- keeping -------------------------------------------------------------------------------

    def _point(self, policy: Parameters, flights: list[Flight], J: float) -> Point | None:
        """Make a point of one flight of each task; None when they are not all the MPC's own."""
        if any(flight.failed_steps or not flight.complete for flight in flights):
            return None
        return Point(
            parameters=policy,
            average=policy.theta,
            k=self.k,
            J=J,
            measured=J,
            flights=1,
            descent=self.progress.descent,
            excess=0.0,
            judged=1.0,
            states=np.stack([flight.deviations for flight in flights]),
            inputs=np.stack([flight.input_deviations for flight in flights]),
            solutions=tuple(flight.solutions for flight in flights),
        )

    def _flight(self, point: Point, task: int) -> Flight:
        trim, origin = self.policy.trim_input, self.policy.origin
        solutions = point.solutions[task] if point.solutions else ()
        return Flight(point.states[task], point.inputs[task] + trim, origin, trim, solutions)


def _objection(flights: list[Flight]) -> str:
    """Say what is wrong with flights that cannot be learned from."""
    for flight in flights:
        if flight.ended:
            return flight.ended
        if flight.failed_steps:
            return f'the MPC failed at {len(flight.failed_steps)} of {flight.steps} steps'
    return 'a flight is not whole or not finite'


def _moved(
    policy: Parameters, share: float = 0.0, direction: NDArray[np.float64] | None = None
) -> Parameters:
    """Return the policy a share of a direction further in theta, and inside its space."""
    theta = policy.theta if direction is None else policy.theta + share * direction
    return policy.with_theta(policy.space.project(theta))


def _between(policy: Parameters, other: Parameters, share: float) -> Parameters:
    """Return the policy whose blocks that are not learned lie a share of the way to another's."""
    fixed, others = policy.fixed, other.fixed
    return policy.with_fixed({n: v + share * (others[n] - v) for n, v in fixed.items()})


def _direction(policy: Parameters, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a direction in theta, uniform on the unit sphere in units of its blocks' scales."""
    v = rng.standard_normal(policy.space.size)
    return v / np.linalg.norm(v) * policy.space.scale
