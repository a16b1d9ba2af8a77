"""A model of the cost for policies in deviations: rehearsals on a surrogate of the plant.

The surrogate (`hmpc_ros.plant.surrogate`) is learned from all flights; the MPC flies on it
(`rehearsal.py`). Inside the trust region composite Gauss-Newton steps (`composite.py`) minimise
what it costs there, each rehearsed and held to the ratio that flights are held to. New descents
begin from a point of the region's boundary about the incumbent, or from the incumbent with the
prediction model that agrees with the surrogate (`Policy.refit`).

The region is ``|d|_D <= radius |theta|_D`` with D the diagonal of the Gauss-Newton matrix: lengths
are shares of the weights, in units of what they do to the cost. So no unit of a block (with the
block's scale) changes what is proposed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.composite import CompositeModel, step_within
from hmpc_ros.learning.forward import forward_sensitivity
from hmpc_ros.learning.model import ACCEPTABLE, SHRINK, Proposal, adapted, moved
from hmpc_ros.learning.noise import ResidualNoise
from hmpc_ros.learning.objective import mean_outcome
from hmpc_ros.learning.rehearsal import Rehearsal
from hmpc_ros.policy.flight import Flight, resolve
from hmpc_ros.policy.protocol import MissingDerivativeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hmpc_ros.learning.model import Point, Region
    from hmpc_ros.learning.objective import Objective
    from hmpc_ros.learning.requests import Evaluation
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.plant.protocol import PlantModel
    from hmpc_ros.policy.parameters import Parameters
    from hmpc_ros.policy.protocol import DeviationPolicy


@dataclass(eq=False)
class Rehearsed:
    """Parameters with their flights of all tasks, on the vehicle or rehearsed, and the mean J."""

    parameters: Parameters
    J: float
    flights: list[Flight]


@dataclass(eq=False)
class RehearsedModel:
    """Implements `hmpc_ros.learning.model.Model`.

    Attributes:
        policy: The learner's own copy of the controller's.
        objective: What a flight costs; rehearsals keep away from its bounds by what noise demands.
        start: What the run starts with.
        untaught: Makes a model of the plant that has learned nothing yet.
        tasks: Number of tasks.
        rehearsals: Steps that are rehearsed between two flights at most.
        refit: Whether the policy's prediction model may be learned along with its weights.
        rng: The iteration's randomness.
    """

    policy: DeviationPolicy
    objective: Objective
    start: Parameters
    untaught: Callable[[], PlantModel]
    tasks: int
    rehearsals: int
    refit: bool
    rng: np.random.Generator
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    widest = 1.0
    wants_solutions = True
    kept = ('states', 'inputs')

    def __post_init__(self) -> None:
        self.surrogate, self.noise = self.untaught(), ResidualNoise()
        self.state_max = self.objective.state_max
        self.starts = np.zeros((self.tasks, 1))  # sums of first states, and how many
        self.rehearsed = 0
        # Without noise, by the surrogate as it is; of the parameters themselves, not their values.
        self._calm: dict[Parameters, Rehearsed | None] = {}

    # -- learning ------------------------------------------------------------------------------

    @property
    def noisy(self) -> bool | None:
        """Whether flights are noisy; None where none ended in hover."""
        return self.noise.matters(self.state_max) if self.noise.known else None

    def learn(self, flown: Sequence[Evaluation], again: Point | None = None) -> None:
        """Teach the surrogate, and what noise there is."""
        known, planned = self.noisy, flown[0].flight
        self._shape = planned.planned_steps or planned.steps, planned.deviations.shape[1]
        self._calm.clear()
        self._learn_plant(flown)
        whole = [e for e in flown if e.outcome.finite]
        for evaluation in whole:
            x, u = evaluation.flight.deviations, evaluation.flight.input_deviations
            if self.noise.hovers(x, self.state_max):
                self.noise.learn(self.surrogate.residuals(x, u))
            if self.starts.shape[1] == 1:
                self.starts = np.zeros((self.tasks, x.shape[1] + 1))
            self.starts[evaluation.request.task] += np.append(x[0], 1.0)
        if self.noisy and not known:
            # What was learned as if there were no noise is not worth keeping.
            self.surrogate = self.untaught()
            self._learn_plant(flown)
            self._tighten()
        if again is not None and not self.noise.known and len(whole) == len(flown):
            first = self.surrogate.residuals(again.kept['states'][0], again.kept['inputs'][0])
            flight = flown[0].flight
            second = self.surrogate.residuals(flight.deviations, flight.input_deviations)
            self.noise.compare(first, second)
            self._tighten()

    def _learn_plant(self, flown: Sequence[Evaluation]) -> None:
        for evaluation in flown:
            flight, expected = evaluation.flight, None
            if not flight.steps:
                continue
            if self.noisy:
                # As it would have been without noise: instruments of the surrogate's regression.
                self.policy.use(evaluation.request.parameters)
                start = self._start(evaluation.request.task, flight.deviations[0])
                nothing = np.zeros_like(flight.deviations[1:])
                rehearsed = Rehearsal(self.surrogate.predictor(), start, nothing).fly(self.policy)
                if rehearsed.complete:
                    expected = rehearsed.deviations, rehearsed.input_deviations
            self.surrogate.add(flight.deviations, flight.input_deviations, expected)

    def _tighten(self) -> None:
        """Keep rehearsals as far from the bounds as noise is expected to violate them.

        On a bound, noise of standard deviation s violates by s / sqrt(2 pi) in the mean.
        """
        if self.noisy:
            margin = np.sqrt(self.noise.variance[self.objective.bounded] / (2 * math.pi))
            state_max = np.maximum(self.state_max - margin, 0.5 * self.state_max)
            self.objective = replace(self.objective, state_max=state_max)

    def _start(self, task: int, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of the states that the flights of a task began with."""
        sums = self.starts[task]
        return np.asarray(sums[:-1] / sums[-1]) if sums[-1] else otherwise

    def keep(self, flown: Sequence[Evaluation]) -> dict[str, Any]:
        """Return deviations of states (tasks, T+1, nd) and inputs (tasks, T, nu), and flights."""
        flights = [evaluation.flight for evaluation in flown]
        return {
            'states': np.stack([flight.deviations for flight in flights]),
            'inputs': np.stack([flight.input_deviations for flight in flights]),
            'solutions': [flight.solutions for flight in flights],
        }

    # -- proposing -----------------------------------------------------------------------------

    def cost(self, parameters: Parameters) -> float:
        """Return J without noise, by the surrogate as it is now."""
        found = self._without_noise(parameters)
        return math.inf if found is None else found.J

    def _without_noise(self, parameters: Parameters) -> Rehearsed | None:
        if parameters not in self._calm:
            self._calm[parameters] = self._rehearse(self._quiet(), parameters, 0)
        return self._calm[parameters]

    def rescue(self) -> Parameters:
        """Return the start as the surrogate would have it: what crashed has taught it."""
        return self._refits(self.start)[-1]

    def improve(self, base: Point, region: Region, new: bool) -> Proposal | None:
        """Make rehearsed steps from the base; see `Model`."""
        here, begin = self._here(base), None
        rehearsals = self._rehearsals(base)
        if new and self.refit:
            begin = self._best_refit(rehearsals, base.parameters, here.J)
        return self._descend(rehearsals, here, begin or here, region)

    def explore(self, incumbent: Point, region: Region, turn: int) -> Proposal:
        """Begin a new descent: with a refitted model, or from the boundary of the region."""
        here, own = self._here(incumbent), incumbent.parameters
        refit = self.refit and turn % 2 == 0
        other = self.policy.refit(own, self.surrogate) if refit else own
        away = self._boundary(here, region.radius)
        rehearsals, share = self._rehearsals(incumbent), 1.0
        for _ in range(self.rehearsals):
            candidate = _between(own, other, share) if refit else moved(own, share * away)
            found = self._rehearse(rehearsals, candidate)
            if found is not None and found.J < here.J + region.hopeless:
                proposal = self._descend(rehearsals, here, found, region)
                assert proposal is not None  # it lies elsewhere than the incumbent
                return proposal
            share *= SHRINK
        return Proposal(candidate, region.radius)

    def _here(self, base: Point) -> Rehearsed:
        """Return a point as it was flown; where that is noisy, as it would be without."""
        calm = self._without_noise(base.parameters) if self.noisy else None
        if calm is not None:
            return calm
        trim, origin = self.policy.trim_input, self.policy.origin
        solutions = base.kept.get('solutions', [()] * self.tasks)
        kept = zip(base.kept['states'], base.kept['inputs'], solutions, strict=True)
        flights = [Flight(x, u + trim, origin, trim, answers) for x, u, answers in kept]
        return Rehearsed(base.parameters, base.J, flights)

    def _refits(self, parameters: Parameters) -> list[Parameters]:
        """Return the parameters with the surrogate's model, and with weights of its own too."""
        refitted = self.policy.refit(parameters, self.surrogate)
        try:
            return [refitted, self.policy.retune(refitted, self.start)]
        except ValueError as error:
            self.notes.append(str(error))
            return [refitted]

    def _best_refit(
        self, rehearsals: list[Rehearsal], parameters: Parameters, J: float
    ) -> Rehearsed | None:
        best = None
        for candidate in self._refits(parameters):
            found = self._rehearse(rehearsals, candidate, 0)
            if found is not None and found.J < J:
                best, J = found, found.J
        return best

    def _boundary(self, here: Rehearsed, radius: float) -> NDArray[np.float64]:
        """Draw a point of the region's boundary, as a change of theta (n,)."""
        unit = here.parameters.space.scale
        v = self.rng.standard_normal(unit.size)
        try:
            scale = self._composite(here).scale
        except MissingDerivativeError:
            scale = np.ones(unit.size)
        size = np.linalg.norm(np.sqrt(scale) * here.parameters.theta / unit)
        return unit * radius * size / np.linalg.norm(v) * v / np.sqrt(scale)

    def _descend(
        self, rehearsals: list[Rehearsal], here: Rehearsed, begin: Rehearsed, region: Region
    ) -> Proposal | None:
        """Make rehearsed steps inside the region; return None when they promise too little.

        Args:
            rehearsals: What was flown.
            here: Its J is what changes are from.
            begin: Where the steps begin.
            region: Of the first step.
        """
        at, model, radius, unit = begin, None, region.radius, begin.parameters.space.scale
        proposal: Proposal | None = None
        while True:
            theta = at.parameters.theta
            try:
                model = model or self._composite(at)
                d, boundary = step_within(model, radius, theta / unit)
            except (MissingDerivativeError, ValueError, np.linalg.LinAlgError) as error:
                self.notes.append(str(error))
                break
            candidate = moved(at.parameters, unit * d)
            change = model.change((candidate.theta - theta) / unit)
            if not -change > region.worth:
                proposal = None
                break
            proposal = Proposal(candidate, radius, change, boundary)
            if self.rehearsed >= self.rehearsals:
                break
            then = self._rehearse(rehearsals, candidate)
            ratio = -math.inf if then is None else (then.J - at.J) / change
            radius = adapted(radius, ratio, boundary, self.widest)
            if then is not None and ratio > ACCEPTABLE:
                at, model, proposal = then, None, None
                if self.rehearsed >= self.rehearsals:
                    break
        if at is not here:
            return Proposal(at.parameters, radius, at.J - here.J)
        return proposal and replace(proposal, radius=radius)

    def _composite(self, point: Rehearsed) -> CompositeModel:
        """Return the composite model of the mean cost at a point, theta in units of its scales."""
        self.policy.use(point.parameters)
        models, unit = [], point.parameters.space.scale
        for flight in point.flights:
            policy = self.policy.differentiate(flight.solutions or resolve(flight, self.policy))
            plant = self.surrogate.augmented_jacobians_along(flight.deviations[:-1], flight.inputs)
            sensitivity = forward_sensitivity(
                policy.state_gain, policy.jacobian() * unit, *plant, dtype=np.float32
            )
            models.append(CompositeModel.of_flight(flight, sensitivity, self.objective))
        return CompositeModel.mean(models)

    # -- rehearsing ----------------------------------------------------------------------------

    def _rehearsals(self, point: Point) -> list[Rehearsal]:
        """Prepare rehearsals of all tasks: of a point's flights, or of flights without noise."""
        if self.noisy:
            return self._quiet()
        predictor = self.surrogate.predictor()
        kept = zip(point.kept['states'], point.kept['inputs'], strict=True)
        return [Rehearsal(predictor, x[0], self.surrogate.residuals(x, u)) for x, u in kept]

    def _quiet(self) -> list[Rehearsal]:
        predictor, nothing = self.surrogate.predictor(), np.zeros(self._shape)
        starts = self.starts[:, :-1] / self.starts[:, -1:]
        return [Rehearsal(predictor, start, nothing) for start in starts]

    def _rehearse(
        self, rehearsals: list[Rehearsal], parameters: Parameters, counts: int = 1
    ) -> Rehearsed | None:
        """Rehearse parameters; None where a flight ends."""
        self.policy.use(parameters)
        self.rehearsed += counts
        flights = [rehearsal.fly(self.policy, True) for rehearsal in rehearsals]
        J = mean_outcome([self.objective.cost(flight) for flight in flights]).J
        return Rehearsed(parameters, J, flights) if math.isfinite(J) else None

    # -- keeping -------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return what survives the iteration."""
        learned = {f'surrogate_{name}': v for name, v in self.surrogate.arrays().items()}
        return {'noise': self.noise.variance, 'starts': self.starts, **learned}

    def restore(self, memory: Memory) -> None:
        """Take over what `arrays` returned."""
        self.noise = ResidualNoise(np.array(memory['noise']))
        self.starts = np.array(memory['starts'])
        self.surrogate.restore({n: memory[f'surrogate_{n}'] for n in self.surrogate.arrays()})
        self._tighten()


def _between(policy: Parameters, other: Parameters, share: float) -> Parameters:
    """Return the policy whose blocks that are not learned lie a share of the way to another's."""
    fixed, others = policy.fixed, other.fixed
    return policy.with_fixed({n: v + share * (others[n] - v) for n, v in fixed.items()})
