"""A rule of one principle: rehearse inside a trust region, fly, believe what one test says.

The model of the cost is the rehearsal on a surrogate of the plant, which all flights teach. Every
iteration

* flies one candidate, and learns the surrogate from it;
* tests ``J(candidate) - J(incumbent)``. Two estimates of it, of the surrogate (rehearsed) and of
  the flights (measured), are one after weighing each by its variance. While the test is undecided
  at its level and the candidate may still be worth it, one of the two flies again. Flights without
  noise are the case of variance zero: nothing weighs but they, and nothing is left to decide;
* adapts the radius of the trust region by the actual over the predicted change of J (Conn, Gould,
  Toint, Trust-Region Methods, 2000, algorithm 6.1.1, with the constants of scipy's
  `_trustregion.py`);
* plans the next candidate: composite Gauss-Newton steps (`composite.py`) inside the region, each
  rehearsed and held to the same ratio, at no flight's cost. When they promise nothing any more, a
  new descent begins from a point of the region's boundary about the incumbent, or from the
  incumbent with the prediction model that agrees with the surrogate (`Policy.refit`).

The region is ``|d|_D <= radius |theta|_D`` with D the diagonal of the Gauss-Newton matrix: lengths
are shares of the weights, in units of what they do to the cost. What is worth a flight is a share
of what was gained so far. So neither adding to the cost, nor scaling it, nor another unit of a
block (with the block's scale) changes what the rule flies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from hmpc_ros.learning.composite import CompositeModel
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.noise import ResidualNoise
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

    from hmpc_ros.learning.objective import Objective
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.plant.protocol import PlantModel
    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import DeviationPolicy

# Of scipy's `_trustregion.py`: the least share of the promised change that is accepted, the shares
# below which the region shrinks and above which it grows (where the step ends on its boundary), and
# by how much.
ACCEPTABLE, POOR, GOOD, SHRINK, GROW = 0.15, 0.25, 0.75, 0.25, 2.0
# Least Marquardt damping: below it a Gauss-Newton matrix of 94 in single precision is not definite
# (94 x 6e-8, with room). A step on the boundary is within a tenth of the radius (More and Sorensen,
# 1983, section 3).
LEAST_DAMPING, NEAR = 1e-4, 0.1
# What a descent must promise to go on, as a share of what was gained so far, halved for each in a
# row that led to nothing. Measured: 0.05 of J on the nominal case, where tables show 0.1.
WORTH = 5e-4
# A descent may begin so far above the incumbent, as a share of what was gained: half-way back.
HOPELESS = 0.5


@dataclass(frozen=True)
class Settings:
    """Settings of the rule."""

    probes: int = field(
        default=3,
        metadata=about('flights under slightly perturbed weights at the start', low=0, high=100),
    )
    probe_size: float = field(
        default=0.05, metadata=about('length of their perturbation of theta', low=1e-9)
    )
    radius: float = field(
        default=0.1,
        metadata=about(
            'radius of the trust region at the start of a descent, as a share of theta, in units '
            'of what its entries do to J',
            low=1e-6,
            high=1.0,
        ),
    )
    rehearsals: int = field(
        default=2,
        metadata=about('steps that are rehearsed between two flights at most', low=1, high=100),
    )
    refit: bool = field(
        default=True,
        metadata=about("whether the MPC's prediction model may be learned along with its weights"),
    )
    level: float = field(
        default=0.05,
        metadata=about(
            'probability with which the test of two noisy costs may err', low=1e-6, high=0.5
        ),
    )
    repeats: int = field(
        default=6,
        metadata=about(
            'flights of one candidate at most, where flights are noisy', low=1, high=100
        ),
    )


@dataclass(eq=False)
class Point:
    """A policy with its flights of all tasks; `k` is the iteration that flew it.

    Attributes:
        parameters, k: The policy's.
        J: Mean cost of its flights.
        flights: How often it was flown.
        states: Deviations, (tasks, T+1, nd).
        inputs: Deviations from hover, (tasks, T, nu).
        solutions: The MPC's, while they are at hand.
    """

    parameters: Parameters
    k: int
    J: float
    flights: int
    states: NDArray[np.float64]
    inputs: NDArray[np.float64]
    solutions: tuple[tuple[Any, ...], ...] = ()


@dataclass
class Progress:
    """Where the rule stands between two iterations; numbers only.

    Attributes:
        radius: The trust region's.
        predicted: By how much J is to change by the candidate, from the base; NaN: not said.
        exploring: Whether the candidate begins a new descent.
        boundary: Whether it lies on the boundary of the region, unrehearsed.
        start, start_flights: J of the first that flew, and how often it was flown.
        explored, fruitless: Descents so far, and of them in a row those that led to nothing.
        error, judged: Sum of the squared relative errors of predicted changes, and their number,
            each as much as noise lets it tell; at first one that is all wrong.
        squares, freedom: Of the costs of flights of the same policy: sum of squared deviations from
            their mean, and its degrees of freedom.
    """

    radius: float
    predicted: float = math.nan
    exploring: bool = False
    boundary: bool = False
    start: float = math.nan
    start_flights: int = 1
    explored: int = 0
    fruitless: int = 0
    error: float = 1.0
    judged: float = 1.0
    squares: float = 0.0
    freedom: int = 0


@dataclass(frozen=True)
class Difference:
    """An estimate of a difference of two costs.

    Attributes:
        value, deviation: Its mean and standard deviation.
        measured: Share of the flights in it, 0 ... 1; the surrogate's is the rest.
    """

    value: float
    deviation: float
    measured: float

    @property
    def probability(self) -> float:
        """That it is negative."""
        if not self.deviation > 0:
            return float(self.value < 0)
        return float(norm.cdf(-self.value / self.deviation))

    def decided(self, level: float) -> bool:
        """Say whether its sign is known but for a probability."""
        return min(self.probability, 1 - self.probability) <= level

    @property
    def hope(self) -> float:
        """Expectation of what is gained where it is negative."""
        if not self.deviation > 0:
            return max(0.0, -self.value)
        t = -self.value / self.deviation
        return float(self.deviation * (norm.pdf(t) + t * norm.cdf(t)))


@dataclass(eq=False)
class TrustRegionRule:
    """See the module's description.

    Attributes:
        policy: The learner's own copy of the controller's.
        objective: What a flight costs.
        start: What the run starts with.
        surrogate: Makes a model of the plant that has learned nothing yet.
        settings: How the rule goes about it.
        tasks: Number of tasks (starts and goals); the objective is the mean over them.
    """

    policy: DeviationPolicy
    objective: Objective
    start: Parameters
    surrogate: Callable[[], PlantModel]
    settings: Settings = field(default_factory=Settings)
    tasks: int = 1

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, again while the test is undecided, and plan the next one."""
        session = _Session(self, k, policy, memory, rng)
        requests, unit = self.requests(policy), policy.space.scale
        for i in range(self.settings.probes if k == 0 else 0):
            v = rng.standard_normal(unit.size)
            moved = _moved(policy, self.settings.probe_size * unit * v / np.linalg.norm(v))
            requests.append(FlightRequest(moved, PERTURBED, task=i % self.tasks))
        flown = yield requests
        session.take(flown)
        while (again := session.to_fly_again()) is not None:
            session.repeat(again, (yield self.requests(again.parameters)))
        return session.finish()

    def requests(self, policy: Parameters) -> list[FlightRequest]:
        """Ask for a flight of each task."""
        return [
            FlightRequest(policy, NOMINAL, with_solutions=True, task=task)
            for task in range(self.tasks)
        ]


class _Session:
    """One iteration of the rule: what it knew, what it is told, what it decides."""

    def __init__(
        self,
        rule: TrustRegionRule,
        k: int,
        candidate: Parameters,
        memory: Memory,
        rng: np.random.Generator,
    ) -> None:
        self.rule, self.k, self.candidate, self.rng = rule, k, candidate, rng
        self.policy, self.objective, self.settings = rule.policy, rule.objective, rule.settings
        self.surrogate, self.noise = rule.surrogate(), ResidualNoise()
        self.progress = Progress(self.settings.radius)
        self.starts = np.zeros((rule.tasks, 1))  # sums of first states, and how many
        self.base: Point | None = None  # where the present descent stands
        self.incumbent: Point | None = None  # the best, as flights prove
        self.point: Point | None = None  # the candidate, where it flew whole
        self.notes: list[str] = []
        self.rehearsed = 0
        # Without noise, by the surrogate as it is.
        self._calm: dict[Point, tuple[Point | None, float]] = {}
        if memory:
            self._recall(memory)
        self._tighten()

    # -- what is told --------------------------------------------------------------------------

    def take(self, flown: list[Evaluation]) -> None:
        """Learn from the first flights of the iteration."""
        self._learn(flown)
        nominal = flown[: self.rule.tasks]
        outcome, flights = mean_outcome([e.outcome for e in nominal]), [e.flight for e in nominal]
        self.lead = Evaluation(nominal[0].request, nominal[0].flight, outcome)
        if outcome.finite and not any(f.failed_steps or not f.complete for f in flights):
            self.point = self._point(self.candidate, flights, outcome.J)
        if self.point is None:
            return
        costs = [e.outcome.J for e in flown if e.outcome.finite]
        if self.noisy and self.k == 0 and self.rule.tasks == 1 and len(costs) > 1:
            # Noise changes the costs of probes more than their perturbation does.
            self.point.J, self.point.flights = float(np.mean(costs)), len(costs)
            self.progress.squares = float(np.var(costs) * len(costs))
            self.progress.freedom = len(costs) - 1
        if self.k and self._flight_variance:
            self._learn_bias(self.point)

    def to_fly_again(self) -> Point | None:
        """Return which of candidate and incumbent is to be flown again; None: it is decided."""
        point, incumbent = self.point, self.incumbent
        if point is None or point.flights >= self.settings.repeats:
            return None
        if not self.noisy:
            # Flights that do not end in hover tell their noise by a pair only, once.
            return None if self.noise.known or point.flights > 1 else point
        if not self.progress.freedom:
            return point
        if incumbent is None:
            return None
        test, most = self._difference(point, incumbent), self.settings.repeats
        if test.decided(self.settings.level) or not test.hope > self._worth():
            return None
        # As things look now, would it be decided when both have flown as often as they may?
        variance = self._variance(replace(point, flights=most), replace(incumbent, flights=most))
        last = replace(test, deviation=math.sqrt(test.measured * variance))
        if test.value >= 0 or not last.decided(self.settings.level):
            return None
        return min((incumbent, point), key=lambda one: one.flights)

    def repeat(self, point: Point, flown: list[Evaluation]) -> None:
        """Take flights of a point that was flown before."""
        self._learn(flown)
        J = mean_outcome([e.outcome for e in flown]).J
        if not self.noise.known and math.isfinite(J):
            first = self.surrogate.residuals(point.states[0], point.inputs[0])
            flight = flown[0].flight
            second = self.surrogate.residuals(flight.deviations, flight.input_deviations)
            self.noise.compare(first, second)
            self._tighten()
        if not math.isfinite(J):
            point.J, point.flights = math.inf, self.settings.repeats
            return
        surprise = J - point.J
        point.flights += 1
        point.J += surprise / point.flights
        self.progress.squares += surprise * (J - point.J)
        self.progress.freedom += 1

    def finish(self) -> Step:
        """Judge the candidate, adapt the region, plan the next."""
        progress, point, incumbent = self.progress, self.point, self.incumbent
        accepted, reason, share, ratio = False, '', None, None
        if point is not None:
            if math.isnan(progress.start):
                progress.start, progress.start_flights = point.J, point.flights
            if incumbent is None:
                accepted = True
            else:
                test = self._difference(point, incumbent)
                share = test.measured
                accepted = test.value < 0 and test.decided(self.settings.level)
                reason = '' if accepted else (
                    f'J = {point.J:.4f} is not proved to be below {incumbent.J:.4f}, the best'
                )  # fmt: skip
        else:
            reason = self.lead.flight.ended or 'the flight is not whole or not finite'
        if self.base is not None and math.isfinite(progress.predicted):
            ratio = self._judge_prediction(self.base, point)
        told = {
            'radius': progress.radius,
            'ratio': ratio,
            'predicted_change': progress.predicted,
            'measured_change': point.J - self.base.J if point and self.base else math.nan,
        }
        if accepted:
            self.incumbent, progress.fruitless = point, 0
        self._move_base(ratio, accepted)
        candidate = self._plan()
        best = self.incumbent
        details = {
            **told,
            # Of the surrogate and of the flights in the estimate of J(candidate) - J(incumbent).
            'trust': None if share is None else 1 - share,
            'share_of_flights': share,
            'best_J': best.J if best else None,
            'best_k': best.k if best else None,
        }
        return Step(
            self.lead,
            candidate,
            accepted=accepted,
            reason=reason,
            memory=self._memory(),
            details=details,
            notes=tuple(self.notes),
        )

    def _judge_prediction(self, base: Point, point: Point | None) -> float:
        """Compare the change of J with what was predicted; adapt the region by it."""
        progress = self.progress
        predicted, ratio = progress.predicted, -math.inf
        if point is not None:
            ratio = self._difference(point, base).value / predicted
        if progress.exploring:
            return ratio
        if not ratio >= POOR:
            progress.radius *= SHRINK
        elif ratio > GOOD and progress.boundary:
            progress.radius = min(1.0, GROW * progress.radius)
        return ratio

    def _learn_bias(self, point: Point) -> None:
        """Learn how wrong rehearsed changes of J are, by all that was changed since the start."""
        progress = self.progress
        start = self._rehearse(self._rehearsals(point), self.rule.start, 0)[1]
        rehearsed, measured = self._cost(point) - start, point.J - progress.start
        if not math.isfinite(rehearsed) or not rehearsed:
            return
        variance = self._flight_variance * (1 / point.flights + 1 / progress.start_flights)
        weight = rehearsed**2 / (rehearsed**2 + variance)
        error = max(0.0, (measured - rehearsed) ** 2 - variance) / rehearsed**2
        progress.error += weight * min(1.0, error)
        progress.judged += weight

    def _move_base(self, ratio: float | None, accepted: bool) -> None:
        """Go on from the candidate, or from where the descent stood."""
        point, progress = self.point, self.progress
        if accepted or (ratio is not None and ratio > ACCEPTABLE and not progress.exploring):
            self.base = point
        elif progress.exploring or self.base is None:
            limit = HOPELESS * self._gain()
            worse = math.inf
            if point is not None and self.incumbent is not None:
                worse = self._difference(point, self.incumbent).value
            self.base = point if worse <= limit else None

    # -- what is known of costs ----------------------------------------------------------------

    @property
    def noisy(self) -> bool:
        """Whether flights are noisy."""
        return self.noise.matters(self.rule.objective.state_max)

    @property
    def _flight_variance(self) -> float:
        """That of the costs of flights of the same policy."""
        return self.progress.squares / max(1, self.progress.freedom) if self.noisy else 0.0

    def _variance(self, point: Point, other: Point) -> float:
        """Return that of the difference of two points' measured costs."""
        return self._flight_variance * (1 / point.flights + 1 / other.flights)

    def _difference(self, point: Point, other: Point) -> Difference:
        """Return J(point) - J(other): what was measured and what is rehearsed, as one estimate."""
        measured, variance = point.J - other.J, self._variance(point, other)
        if not variance > 0:
            return Difference(measured, 0.0, 1.0)
        rehearsed = self._cost(point) - self._cost(other)
        if not math.isfinite(rehearsed):
            return Difference(measured, math.sqrt(variance), 1.0)
        bias = self.progress.error / self.progress.judged * rehearsed**2
        share = bias / (bias + variance)
        value = share * measured + (1 - share) * rehearsed
        return Difference(value, math.sqrt(share * variance), share)

    def _cost(self, point: Point) -> float:
        """Return J of a point without noise, as the surrogate has it now."""
        return self._without_noise(point)[1]

    def _without_noise(self, point: Point) -> tuple[Point | None, float]:
        if point not in self._calm:
            self._calm[point] = self._rehearse(self._rehearsals(point), point.parameters, 0)
        return self._calm[point]

    def _gain(self) -> float:
        """Return by how much J was made smaller so far."""
        return max(0.0, self.progress.start - self.incumbent.J) if self.incumbent else 0.0

    def _worth(self) -> float:
        """Return the least change of J that is worth a flight."""
        return WORTH * 0.5**self.progress.fruitless * self._gain()

    # -- learning ------------------------------------------------------------------------------

    def _learn(self, flown: list[Evaluation]) -> None:
        state_max, known = self.rule.objective.state_max, self.noisy
        self._calm.clear()
        self._learn_plant(flown)
        for evaluation in flown:
            flight = evaluation.flight
            if not evaluation.outcome.finite:
                continue
            x, u = flight.deviations, flight.input_deviations
            if self.noise.hovers(x, state_max):
                self.noise.learn(self.surrogate.residuals(x, u))
            if self.starts.shape[1] == 1:
                self.starts = np.zeros((len(self.starts), x.shape[1] + 1))
            self.starts[evaluation.request.task] += np.append(x[0], 1.0)
        if self.noisy and not known:
            # What was learned as if there were no noise is not worth keeping.
            self.surrogate = self.rule.surrogate()
            self._learn_plant(flown)
            self._tighten()

    def _learn_plant(self, flown: list[Evaluation]) -> None:
        for evaluation in flown:
            flight, expected = evaluation.flight, None
            if not flight.steps:
                continue
            if self.noisy:
                # As it would have been without noise: instruments of the surrogate's regression.
                self.policy.use(evaluation.request.parameters)
                start = self._start(evaluation.request.task, flight.deviations[0])
                nothing = np.zeros_like(flight.deviations[1:])
                rehearsal = Rehearsal(self.surrogate.predictor(), start, nothing)
                rehearsed = rehearsal.fly(self.policy)
                if rehearsed.complete:
                    expected = rehearsed.deviations, rehearsed.input_deviations
            self.surrogate.add(flight.deviations, flight.input_deviations, expected)

    def _tighten(self) -> None:
        """Keep rehearsals as far from the bounds as noise is expected to violate them.

        On a bound, noise of standard deviation s violates by s / sqrt(2 pi) in the mean.
        """
        if self.noisy:
            objective = self.rule.objective
            margin = np.sqrt(self.noise.variance[objective.bounded] / (2 * math.pi))
            state_max = np.maximum(objective.state_max - margin, 0.5 * objective.state_max)
            self.objective = replace(objective, state_max=state_max)

    def _start(self, task: int, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of the states that the flights of a task began with."""
        sums = self.starts[task]
        return np.asarray(sums[:-1] / sums[-1]) if sums[-1] else otherwise

    # -- planning ------------------------------------------------------------------------------

    def _plan(self) -> Parameters:
        """Choose what to fly next."""
        progress = self.progress
        progress.predicted, progress.exploring, progress.boundary = math.nan, False, False
        if self.incumbent is None:
            return self._refits(self.rule.start)[-1]
        if self.base is not None:
            here = self._rehearsed_base(self.base)
            begin = here
            if self.k == 0 and self.settings.refit:
                begin = self._best_refit(self.base, here) or here
            candidate = self._descend(self.base, here, begin)
            if candidate is not None:
                return candidate
        return self._explore(self.incumbent)

    def _rehearsed_base(self, base: Point) -> Point:
        """Return where a descent stands, without noise; as it was flown where there is none."""
        if not self.noisy:
            return base
        return self._without_noise(base)[0] or base

    def _refits(self, parameters: Parameters) -> list[Parameters]:
        """Return the parameters with the surrogate's model, and with weights of its own too."""
        refitted = self.policy.refit(parameters, self.surrogate)
        try:
            return [refitted, self.policy.retune(refitted, self.rule.start)]
        except ValueError as error:
            self.notes.append(str(error))
            return [refitted]

    def _best_refit(self, base: Point, here: Point) -> Point | None:
        rehearsals = self._rehearsals(base)
        for candidate in self._refits(base.parameters):
            point, J = self._rehearse(rehearsals, candidate, 0)
            if point is not None and J < here.J:
                here = point
        return here if here.k < 0 else None

    def _explore(self, incumbent: Point) -> Parameters:
        """Begin a new descent: with a refitted model, or from the boundary of the region."""
        progress, settings = self.progress, self.settings
        refit = settings.refit and progress.explored % 2 == 0
        progress.explored += 1
        progress.fruitless += 1
        progress.radius, progress.exploring = settings.radius, True
        here = self._rehearsed_base(incumbent)
        own, other = incumbent.parameters, incumbent.parameters
        if refit:
            other = self.policy.refit(own, self.surrogate)
        away = self._boundary(here)
        rehearsals, share = self._rehearsals(incumbent), 1.0
        for _ in range(settings.rehearsals):
            moved = _between(own, other, share) if refit else _moved(own, share * away)
            point, J = self._rehearse(rehearsals, moved)
            if point is not None and J < here.J + HOPELESS * self._gain():
                return self._descend(incumbent, here, point) or moved
            share *= SHRINK
        return moved

    def _boundary(self, here: Point) -> NDArray[np.float64]:
        """Draw a point of the region's boundary, as a change of theta (n,)."""
        unit = here.parameters.space.scale
        v = self.rng.standard_normal(unit.size)
        try:
            scale = self._composite(here).scale
        except MissingDerivativeError:
            scale = np.ones(unit.size)
        size = np.linalg.norm(np.sqrt(scale) * here.parameters.theta / unit)
        return unit * self.settings.radius * size / np.linalg.norm(v) * v / np.sqrt(scale)

    def _descend(self, base: Point, here: Point, begin: Point) -> Parameters | None:
        """Make rehearsed steps inside the region; return None when they promise too little.

        Args:
            base: What was flown, which rehearsals are about.
            here: The same without noise, whose J changes are from.
            begin: Where the steps begin.
        """
        progress, point, model = self.progress, begin, None
        rehearsals, unit = self._rehearsals(base), begin.parameters.space.scale
        step: tuple[Parameters, float, bool] | None = None
        while True:
            theta = point.parameters.theta
            try:
                model = model or self._composite(point)
                d, boundary = step_within(model, progress.radius, theta / unit)
            except (MissingDerivativeError, ValueError, np.linalg.LinAlgError) as error:
                self.notes.append(str(error))
                break
            candidate = _moved(point.parameters, unit * d)
            change = model.change((candidate.theta - theta) / unit)
            step = (candidate, change, boundary)
            if not -change > self._worth():
                step = None
                break
            if self.rehearsed >= self.settings.rehearsals:
                break
            then, J = self._rehearse(rehearsals, candidate)
            ratio = (J - point.J) / change
            if not ratio >= POOR:
                progress.radius *= SHRINK
            elif ratio > GOOD and boundary:
                progress.radius = min(1.0, GROW * progress.radius)
            if then is not None and ratio > ACCEPTABLE:
                point, model, step = then, None, None
                if self.rehearsed >= self.settings.rehearsals:
                    break
        if point is not here:
            progress.predicted = point.J - here.J
            return point.parameters
        if step is None:
            return None
        candidate, progress.predicted, progress.boundary = step
        return candidate

    def _composite(self, point: Point) -> CompositeModel:
        """Return the composite model of the mean cost at a point, theta in units of its scales."""
        flights = [self._flight(point, task) for task in range(self.rule.tasks)]
        self.policy.use(point.parameters)
        models, unit = [], point.parameters.space.scale
        for flight in flights:
            policy = self.policy.differentiate(flight.solutions or resolve(flight, self.policy))
            plant = self.surrogate.augmented_jacobians_along(flight.deviations[:-1], flight.inputs)
            sensitivity = forward_sensitivity(
                policy.state_gain, policy.jacobian() * unit, *plant, dtype=np.float32
            )
            models.append(CompositeModel.of_flight(flight, sensitivity, self.objective))
        return CompositeModel.mean(models)

    def _rehearsals(self, point: Point) -> list[Rehearsal]:
        """Prepare rehearsals of all tasks: of a point's flights, or of flights without noise."""
        predictor, rehearsals = self.surrogate.predictor(), []
        for task, (x, u) in enumerate(zip(point.states, point.inputs, strict=True)):
            if self.noisy:
                start = self._start(task, x[0])
                rehearsals.append(Rehearsal(predictor, start, np.zeros_like(x[1:])))
            else:
                rehearsals.append(Rehearsal(predictor, x[0], self.surrogate.residuals(x, u)))
        return rehearsals

    def _rehearse(
        self, rehearsals: list[Rehearsal], parameters: Parameters, counts: int = 1
    ) -> tuple[Point | None, float]:
        """Rehearse parameters; return them with their flights, None where these end, and J."""
        self.policy.use(parameters)
        self.rehearsed += counts
        flights = [rehearsal.fly(self.policy, True) for rehearsal in rehearsals]
        J = mean_outcome([self.objective.cost(flight) for flight in flights]).J
        if not math.isfinite(J):
            return None, math.inf
        return replace(self._point(parameters, flights, J), k=-1), J

    def _point(self, parameters: Parameters, flights: list[Flight], J: float) -> Point:
        return Point(
            parameters,
            self.k,
            J,
            1,
            np.stack([flight.deviations for flight in flights]),
            np.stack([flight.input_deviations for flight in flights]),
            tuple(flight.solutions for flight in flights),
        )

    def _flight(self, point: Point, task: int) -> Flight:
        trim, origin = self.policy.trim_input, self.policy.origin
        solutions = point.solutions[task] if point.solutions else ()
        return Flight(point.states[task], point.inputs[task] + trim, origin, trim, solutions)

    # -- keeping -------------------------------------------------------------------------------

    def _memory(self) -> Memory:
        memory: dict[str, Any] = {f'progress_{n}': v for n, v in vars(self.progress).items()}
        memory |= {'noise': self.noise.variance, 'starts': self.starts}
        memory |= {f'surrogate_{name}': v for name, v in self.surrogate.arrays().items()}
        for name, point in (('incumbent', self.incumbent), ('base', self.base)):
            if point is None:
                continue
            memory[f'{name}_numbers'] = np.array([point.k, point.J, point.flights], dtype=float)
            memory[f'{name}_theta'] = point.parameters.theta
            memory |= {f'{name}_states': point.states, f'{name}_inputs': point.inputs}
            memory |= {f'{name}_fixed_{n}': v for n, v in point.parameters.fixed.items()}
        return memory

    def _recall(self, memory: Memory) -> None:
        for name in vars(self.progress):
            value = memory[f'progress_{name}']
            # What was not finite has become null on its way through the results.
            setattr(self.progress, name, math.nan if value is None else value)
        self.noise = ResidualNoise(np.array(memory['noise']))
        self.starts = np.array(memory['starts'])
        self.surrogate.restore({n: memory[f'surrogate_{n}'] for n in self.surrogate.arrays()})
        for name in ('incumbent', 'base'):
            if f'{name}_theta' not in memory:
                continue
            k, J, flights = memory[f'{name}_numbers'].tolist()
            start = self.rule.start
            fixed = {block: memory[f'{name}_fixed_{block}'] for block in start.fixed}
            parameters = start.with_theta(memory[f'{name}_theta']).with_fixed(fixed)
            states, inputs = memory[f'{name}_states'], memory[f'{name}_inputs']
            point = Point(parameters, int(k), J, int(flights), states, inputs)
            if name == 'base' and self.incumbent is not None and self.incumbent.k == point.k:
                point = self.incumbent  # one and the same
            setattr(self, name, point)


def step_within(
    model: CompositeModel, radius: float, theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], bool]:
    """Return the step of a composite model in a trust region, and whether it ends on its boundary.

    Args:
        model: Of theta in units of its scales.
        radius: Longest step, as a share of theta; both in units of what they do to the cost.
        theta: In units of its scales, (n,).

    Raises:
        ValueError: The model is not finite, or a quadratic program was not solved.
    """
    scale = np.sqrt(model.scale)
    longest = radius * float(np.linalg.norm(scale * theta))
    low, high = math.log(LEAST_DAMPING), math.log(1 / LEAST_DAMPING)
    damping, boundary = low, False
    while True:
        d = model.step(math.exp(damping))
        length = float(np.linalg.norm(scale * d)) / longest
        if abs(length - 1) <= NEAR or (length < 1 and not boundary):
            return d, boundary
        if high - low < NEAR:
            return d / max(1.0, length), True
        boundary = True
        low, high = (damping, high) if length > 1 else (low, damping)
        damping = (low + high) / 2


def _moved(policy: Parameters, change: NDArray[np.float64]) -> Parameters:
    """Return the policy with another theta, inside its space."""
    return policy.with_theta(policy.space.project(policy.theta + change))


def _between(policy: Parameters, other: Parameters, share: float) -> Parameters:
    """Return the policy whose blocks that are not learned lie a share of the way to another's."""
    fixed, others = policy.fixed, other.fixed
    return policy.with_fixed({n: v + share * (others[n] - v) for n, v in fixed.items()})
