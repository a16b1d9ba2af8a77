"""The default rule: learn from a handful of flights.

Every iteration flies one candidate (weights, and sometimes a prediction model for the MPC), learns
a surrogate of the plant from it (``hmpc_ros.plant.surrogate``), judges it by what it cost, and plans
the next candidate:

* a **step** from the best point of the present descent: the composite model of the cost
  (``composite.py``) with the surrogate's Jacobians, damped as much as a *rehearsal* on the
  surrogate (``rehearsal.py``) and the last flights say;
* a **refresh**: the surrogate's linearisation at hover becomes the MPC's model, with the weights as
  they are or with those of its Riccati equation;
* a **kick**: a random change of the weights, where a descent has come to an end. It needs no model,
  so it is also what is left when the surrogate explains nothing.

What is handed over is the *incumbent*: the best candidate whose own flights prove it. Where flights
are noisy, their noise is taken out by the surrogate (a rehearsal without it) before they are
compared, and an incumbent is flown again before it may replace the last one that was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.composite import CompositeModel
from hmpc_ros.learning.costate import fly_under
from hmpc_ros.learning.flight import Flight, resolve
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.rehearsal import ORIGIN, Rehearsal
from hmpc_ros.learning.requests import NOMINAL, PERTURBED, Evaluation, FlightRequest
from hmpc_ros.learning.rules import Step
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NX
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.weights import N_THETA, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.box import Box
    from hmpc_ros.learning.objective import Objective
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.unconstrained import OfflineMpc

# What a candidate is.
START, STEP, REFRESH, EXCURSION = 'start', 'step', 'refresh', 'excursion'


@dataclass(frozen=True)
class Settings:
    """Settings of the rule.

    Attributes:
        probes: Flights under slightly perturbed weights before the first step, for the surrogate.
        probe_size: Length of their perturbation of theta.
        rehearsals: Rehearsals per iteration at most; each costs computing time, none a flight.
        damping: Marquardt damping at the start, in units of the composite model's curvature.
        refresh: Whether the MPC's model may be changed.
        kick: Length of a kick of theta at the start.
    """

    probes: int = 3
    probe_size: float = 0.05
    rehearsals: int = 2
    damping: float = 1e-2
    refresh: bool = True
    kick: float = 0.3


# A step is flown when its rehearsal shows this share of the decrease that the composite model
# predicts, and the damping is made smaller when the flight shows GOOD of it.
ACCEPTABLE, GOOD, NOTHING = 0.3, 0.5, 0.1
LOOSER, TIGHTER, UNREHEARSED, AFTER_REJECTION = 0.3, 3.0, 10.0, 4.0
DAMPING_AFTER_EXCURSION = 0.1
# A descent is over after so many rejections, or when it promises less than this share of J.
REJECTIONS, WORTHWHILE = 3, 2e-5
# An excursion that is this much worse than the incumbent is not followed.
HOPELESS, RISKY = 1.5, 1.1
MAX_REFRESHES_AT_START = 6
# Share of the predicted changes of J that must come true, or the surrogate explains nothing.
TRUST_WARNING = 0.1


@dataclass
class Point:
    """Weights and model that were flown, with what the flights of all tasks showed.

    Attributes:
        theta: (94,).
        model: Prediction model of the MPC.
        J: Mean cost of its flights.
        states: Deviations, (tasks, T+1, 12).
        inputs: Deviations from hover [rad/s], (tasks, T, 4).
        gain: du/dx of the MPC on these flights, (tasks, T, 4, 12).
        jacobian: du/dtheta, (tasks, T, 4, 94).
    """

    theta: NDArray[np.float64]
    model: LinearModel
    J: float
    states: NDArray[np.float64]
    inputs: NDArray[np.float64]
    gain: NDArray[np.float64]
    jacobian: NDArray[np.float64]


@dataclass
class Progress:
    """Where the rule stands between two iterations; numbers only, so that it can be kept.

    Attributes:
        kind: What the candidate is that is to be flown.
        predicted: By how much J is to change by it, from `reference`; NaN where nothing is said.
        reference: J that the prediction starts from.
        composite: The same prediction by the composite model, for steps.
        damping: Of the next step.
        rejections: Failed steps in a row.
        refreshes: Refreshes at the start so far.
        excursions: Excursions so far.
        reach: Share of the way to the refitted model that the next refresh goes.
        kick: Length of the next kick.
        best_before: The incumbent's J when the present excursion began.
        surprise, change: Discounted sums of (measured - predicted)^2 and measured^2 changes of J.
        judged: Flights in these sums.
    """

    kind: str = START
    predicted: float = np.nan
    reference: float = np.nan
    composite: float = np.nan
    damping: float = 0.0
    rejections: int = 0
    refreshes: int = 0
    excursions: int = 0
    reach: float = 1.0
    kick: float = 0.0
    best_before: float = np.inf
    surprise: float = 0.0
    change: float = 0.0
    judged: int = 0

    @property
    def trust(self) -> float | None:
        """Share of the measured changes of J that had been predicted, 0 ... 1; None before any."""
        if not self.change > 0:
            return None
        return float(np.clip(1.0 - self.surprise / self.change, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is to be flown next, and what is expected of it."""

    theta: NDArray[np.float64]
    model: LinearModel


@dataclass(eq=False)
class FewFlightsRule:
    """See the module's description.

    Attributes:
        mpc: The learner's own copy of the controller's MPC.
        objective: What a flight costs.
        box: The set that theta is kept in.
        model: Prediction model that the run starts with.
        weights: Weights that the run starts with.
        settings: How the rule goes about it.
        tasks: Number of tasks (starts and goals); the objective is the mean over them.
    """

    mpc: OfflineMpc
    objective: Objective
    box: Box
    model: LinearModel
    weights: Weights
    settings: Settings = field(default_factory=Settings)
    tasks: int = 1

    def iterate(
        self, k: int, theta: NDArray[np.float64], memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, learn from it, judge it, and plan the next one."""
        session = _Session(self, memory, rng)
        model = session.candidate_model
        requests = [
            FlightRequest(theta, NOMINAL, with_solutions=True, model=model, task=task)
            for task in range(self.tasks)
        ]
        if k == 0:
            for i in range(self.settings.probes):
                probe = theta + self.settings.probe_size * _direction(rng)
                task = i % self.tasks
                requests.append(
                    FlightRequest(self.box.project(probe), PERTURBED, model=model, task=task)
                )
        flown = yield requests
        return session.digest(flown[: self.tasks], flown[self.tasks :])


class _Session:
    """One iteration of the rule: what it knew, what it is told, what it decides."""

    def __init__(self, rule: FewFlightsRule, memory: Memory, rng: np.random.Generator) -> None:
        self.rule, self.rng = rule, rng
        self.settings = rule.settings
        self.mpc, self.objective = rule.mpc, rule.objective
        self.surrogate = Surrogate(rule.model, rule.objective.state_max)
        self.progress = Progress(damping=self.settings.damping, kick=self.settings.kick)
        self.base: Point | None = None
        self.incumbent: Point | None = None
        self.candidate_model = rule.model
        self.notes: list[str] = []
        if memory:
            self._recall(memory)

    # -- the iteration -------------------------------------------------------------------------

    def digest(self, nominal: list[Evaluation], probes: list[Evaluation]) -> Step:
        """Learn from the flights, judge the candidate, plan the next."""
        explained = []
        for evaluation in (*nominal, *probes):
            flight = evaluation.flight
            if flight.steps:
                prediction = self.surrogate.add(flight.deviations, flight.input_deviations)
                if prediction is not None:
                    explained.append(prediction.explained)
        outcome = _mean([evaluation.outcome for evaluation in nominal])
        details = self._details(outcome, explained)
        accepted, reason = self._judge(nominal, outcome)
        candidate = self._plan()
        lead = Evaluation(nominal[0].request, nominal[0].flight, outcome)
        if candidate is None:
            reason = f'no weights were found that fly: {reason}'
            return Step(lead, lead.theta, accepted=False, reason=reason, diverged=True)
        self.candidate_model = candidate.model
        return Step(
            lead,
            candidate.theta,
            accepted=accepted,
            reason=reason,
            memory=self._memory(),
            details=details,
            notes=tuple(self.notes),
        )

    def _judge(self, nominal: list[Evaluation], outcome: Outcome) -> tuple[bool, str]:
        """Decide what the flown candidate becomes: base of the descent, incumbent, or nothing."""
        progress, J = self.progress, outcome.J
        point = self._point(nominal, outcome) if outcome.finite else None
        self._measure_trust(J)
        accepted = point is not None and (self.incumbent is None or J < self.incumbent.J)
        if accepted:
            self.incumbent = point
        if progress.kind == STEP:
            assert self.base is not None
            ratio = (J - self.base.J) / progress.composite
            if ratio > GOOD:
                progress.damping *= LOOSER
            progress.rejections = progress.rejections + 1 if not ratio > NOTHING else 0
            if point is not None and J < self.base.J:
                self.base = point
            else:
                progress.damping *= AFTER_REJECTION
        elif progress.kind == EXCURSION:
            best = self.incumbent.J if self.incumbent else np.inf
            self.base = point if J < HOPELESS * best else None
        elif accepted:
            self.base = point
        if accepted:
            return True, ''
        if nominal[0].flight.ended or not outcome.finite:
            return False, nominal[0].flight.ended or 'a flight is not whole or not finite'
        assert self.incumbent is not None
        return False, f'the objective {J:.4f} is not below the best, {self.incumbent.J:.4f}'

    def _plan(self) -> Candidate | None:
        """Choose what to fly next; None when nothing flies."""
        if self.incumbent is None or self._refreshing():
            candidate = self._refresh_at_start()
            if candidate is not None or self.incumbent is None:
                return candidate
        while True:
            if self.base is None:
                return self._excursion()
            candidate = self._step(self.base)
            if candidate is not None:
                return candidate
            self.base = None

    # -- candidates ----------------------------------------------------------------------------

    def _step(self, base: Point) -> Candidate | None:
        """Plan a step of the descent; None when it has come to its end."""
        progress = self.progress
        if progress.rejections >= REJECTIONS:
            return None
        model = self._composite(base)
        rehearsals = self._rehearsals(base)
        for rehearsal in range(self.settings.rehearsals + 1):
            try:
                d = model.step(progress.damping)
            except ValueError as error:
                self.notes.append(str(error))
                return None
            theta = self.rule.box.project(base.theta + d)
            expected = model.change(theta - base.theta)
            if not expected < -WORTHWHILE * base.J:
                return None
            predicted = expected
            if rehearsal == self.settings.rehearsals:
                break
            predicted = self._rehearse(rehearsals, theta, base.model) - base.J
            if predicted < ACCEPTABLE * expected:
                break
            progress.damping *= TIGHTER if rehearsal == 0 else UNREHEARSED
        self._expect(STEP, base.J, predicted, expected)
        return Candidate(theta, base.model)

    def _composite(self, base: Point) -> CompositeModel:
        models = []
        for i in range(len(base.states)):
            flight = self._flight(base, i)
            jacobians = self.surrogate.augmented_jacobians_along(
                flight.deviations[:-1], flight.inputs
            )
            sensitivity = forward_sensitivity(base.gain[i], base.jacobian[i], *jacobians)
            models.append(CompositeModel.of_flight(flight, sensitivity, self.objective))
        return CompositeModel.mean(models)

    def _refreshing(self) -> bool:
        """Whether the start is still being sought: refreshes go on while they help much."""
        progress = self.progress
        if not self.settings.refresh or progress.refreshes >= MAX_REFRESHES_AT_START:
            return False
        if progress.kind == START:
            return True
        assert self.incumbent is not None
        helped = self.incumbent.J < 0.95 * progress.best_before
        return progress.kind == REFRESH and helped

    def _refresh_at_start(self) -> Candidate | None:
        """Plan to fly the refitted model, with old weights or its own, if it rehearses better."""
        progress = self.progress
        if progress.refreshes >= MAX_REFRESHES_AT_START:
            return None
        progress.refreshes += 1
        model = self.surrogate.hover_model()
        start = self.rule.weights
        thetas = [start.theta if self.incumbent is None else self.incumbent.theta]
        try:
            thetas.insert(0, Weights.for_model(model, start.q, start.r).theta)
        except ValueError as error:
            self.notes.append(str(error))
        best, best_J = None, np.inf
        if self.incumbent is not None:
            rehearsals, best_J = self._rehearsals(self.incumbent), self.incumbent.J
            for theta in thetas:
                J = self._rehearse(rehearsals, theta, model)
                if J < best_J:
                    best, best_J = theta, J
        else:
            best = thetas[0]
        if best is None:
            return None
        progress.best_before = self.incumbent.J if self.incumbent else np.inf
        self._expect(REFRESH, progress.best_before, best_J - progress.best_before)
        return Candidate(self.rule.box.project(best), model)

    def _excursion(self) -> Candidate:
        """Plan to leave the incumbent: towards the refitted model or by a kick, in turns."""
        progress, incumbent = self.progress, self.incumbent
        assert incumbent is not None
        refresh = self.settings.refresh and progress.excursions % 2 == 0
        progress.excursions += 1
        rehearsals = self._rehearsals(incumbent)
        direction = _direction(self.rng)
        share = 1.0
        for rehearsal in range(self.settings.rehearsals + 1):
            theta, model = incumbent.theta, incumbent.model
            if refresh:
                model = _between(model, self.surrogate.hover_model(), share * progress.reach)
            else:
                theta = self.rule.box.project(theta + share * progress.kick * direction)
            J = np.nan
            if rehearsal == self.settings.rehearsals:
                break
            J = self._rehearse(rehearsals, theta, model)
            if J < RISKY * incumbent.J:
                break
            share *= 0.3
        progress.best_before = incumbent.J
        progress.damping, progress.rejections = DAMPING_AFTER_EXCURSION, 0
        self._expect(EXCURSION, incumbent.J, J - incumbent.J)
        return Candidate(theta, model)

    def _expect(
        self, kind: str, reference: float, predicted: float, composite: float = np.nan
    ) -> None:
        progress = self.progress
        progress.kind, progress.reference = kind, reference
        progress.predicted, progress.composite = predicted, composite

    # -- rehearsals ----------------------------------------------------------------------------

    def _rehearsals(self, point: Point) -> list[Rehearsal]:
        """Prepare rehearsals of all tasks around the flights of a point."""
        predictor = self.surrogate.predictor()
        return [
            Rehearsal(predictor, states[0], self.surrogate.residuals(states, inputs))
            for states, inputs in zip(point.states, point.inputs, strict=True)
        ]

    def _rehearse(
        self, rehearsals: list[Rehearsal], theta: NDArray[np.float64], model: LinearModel
    ) -> float:
        """Return the mean cost of the tasks under weights and model, as rehearsed."""
        fly_under(self.mpc, theta, model)
        costs = [self.objective.cost(rehearsal.fly(self.mpc)).J for rehearsal in rehearsals]
        return float(np.mean(costs))

    # -- trust ---------------------------------------------------------------------------------

    def _measure_trust(self, J: float) -> None:
        """Compare the change of J that was predicted with the one that was measured."""
        progress = self.progress
        change = J - progress.reference
        if not (np.isfinite(progress.predicted) and np.isfinite(change)):
            return
        progress.surprise = 0.7 * progress.surprise + (change - progress.predicted) ** 2
        progress.change = 0.7 * progress.change + change**2
        progress.judged += 1
        trust = progress.trust
        if trust is not None and trust < TRUST_WARNING and progress.judged >= 5:
            self.notes.append(
                f'the surrogate explains {100 * trust:.0f} % of how J changes from flight to '
                'flight: steps along it are hardly better than random ones'
            )

    def _details(self, outcome: Outcome, explained: list[float]) -> dict[str, float | None]:
        progress = self.progress
        return {
            'measured_change': outcome.J - progress.reference,
            'predicted_change': progress.predicted,
            'damping': progress.damping,
            'surrogate_explains': float(np.mean(explained)) if explained else None,
        }

    # -- keeping -------------------------------------------------------------------------------

    def _point(self, nominal: list[Evaluation], outcome: Outcome) -> Point | None:
        """Make a point of flights that all have a derivative."""
        gains, jacobians = [], []
        theta, model = nominal[0].theta, self.candidate_model
        for evaluation in nominal:
            flight = evaluation.flight
            fly_under(self.mpc, theta, model)
            if flight.failed_steps:
                return None
            sensitivity = self.mpc.sensitivity(flight.solutions or resolve(flight, self.mpc))
            if sensitivity.failed_steps:
                return None
            gains.append(sensitivity.state_gain)
            jacobians.append(sensitivity.weight_jacobian())
        return Point(
            theta,
            model,
            outcome.J,
            np.stack([evaluation.flight.deviations for evaluation in nominal]),
            np.stack([evaluation.flight.input_deviations for evaluation in nominal]),
            np.stack(gains),
            np.stack(jacobians),
        )

    def _flight(self, point: Point, task: int) -> Flight:
        hover = point.model.hover_input
        return Flight(point.states[task], point.inputs[task] + hover, ORIGIN, hover)

    def _memory(self) -> Memory:
        memory: dict[str, Any] = {
            f'progress_{item.name}': getattr(self.progress, item.name)
            for item in fields(self.progress)
        }
        memory['candidate_model'] = _packed(self.candidate_model)
        for name, array in self.surrogate.arrays().items():
            memory[f'surrogate_{name}'] = array
        for name, point in (('base', self.base), ('incumbent', self.incumbent)):
            if point is not None:
                memory[f'{name}_J'] = point.J
                memory[f'{name}_model'] = _packed(point.model)
                for key in ('theta', 'states', 'inputs', 'gain', 'jacobian'):
                    memory[f'{name}_{key}'] = getattr(point, key)
        return memory

    def _recall(self, memory: Memory) -> None:
        for item in fields(self.progress):
            value = memory[f'progress_{item.name}']
            # What was not finite has become null on its way through the results.
            setattr(self.progress, item.name, np.nan if value is None else value)
        if np.isnan(self.progress.best_before):
            self.progress.best_before = np.inf
        self.candidate_model = self._unpacked(memory['candidate_model'])
        self.surrogate.restore(
            {name: memory[f'surrogate_{name}'] for name in self.surrogate.arrays()}
        )
        self.base = self._point_from(memory, 'base')
        self.incumbent = self._point_from(memory, 'incumbent')

    def _point_from(self, memory: Memory, name: str) -> Point | None:
        if f'{name}_J' not in memory:
            return None
        keys = ('states', 'inputs', 'gain', 'jacobian')
        return Point(
            memory[f'{name}_theta'],
            self._unpacked(memory[f'{name}_model']),
            memory[f'{name}_J'],
            *(memory[f'{name}_{key}'] for key in keys),
        )

    def _unpacked(self, packed: NDArray[np.float64]) -> LinearModel:
        start = self.rule.model
        nu = start.B.shape[1]
        A, B, c = packed[:, :NX], packed[:, NX : NX + nu], packed[:, -1]
        model = LinearModel(A, B, c, start.time_step, start.hover_input)
        return start if model.same_as(start) else model


def _packed(model: LinearModel) -> NDArray[np.float64]:
    return np.column_stack((model.A, model.B, model.c))


def _between(model: LinearModel, other: LinearModel, share: float) -> LinearModel:
    """Return the model that lies a share of the way from one to the other."""
    A, B, c = (
        getattr(model, name) + share * (getattr(other, name) - getattr(model, name))
        for name in 'ABc'
    )
    return LinearModel(A, B, c, model.time_step, model.hover_input)


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a direction in theta, uniform on the unit sphere."""
    v = rng.standard_normal(N_THETA)
    return v / np.linalg.norm(v)


def _mean(outcomes: list[Outcome]) -> Outcome:
    C, V, J = (float(np.mean([getattr(o, name) for o in outcomes])) for name in 'CVJ')
    return Outcome(C, V, J)
