"""From values to objects: a training run of the tracking MPC, without ROS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros.configuration import build as build_linear
from hmpc_ros.configuration import build_tracking as build
from hmpc_ros.configuration import tracking_rules
from hmpc_ros.configuration.files import Configuration
from hmpc_ros.configuration.learner import (
    MayDiffer,
    as_begun,
    describe,
    refuse_other_values,
)
from hmpc_ros.configuration.signature import LEARNED
from hmpc_ros.configuration.tracking_rules import REACH
from hmpc_ros.configuration.weights_file import BEST_WEIGHTS_FILE, origin, write_weights
from hmpc_ros.learning.model import Point, Proposal, Region
from hmpc_ros.learning.objective import Outcome
from hmpc_ros.learning.parallel import fly_in_turn, give_way, giving_way, process_pool, started
from hmpc_ros.learning.requests import CLOSING, Evaluation, FlightRequest
from hmpc_ros.learning.results import Record, recorded
from hmpc_ros.learning.rules import Memory, Rule
from hmpc_ros.learning.safety import Envelope
from hmpc_ros.learning.summary import best_record
from hmpc_ros.learning.training import TrainingRun, open_run
from hmpc_ros.learning.trust_region import Settings, TrustRegionRule
from hmpc_ros.plant.grey_box_fit import Recording
from hmpc_ros.plant.reference.flatness import Drag
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking import flying, performance
from hmpc_ros.policy.tracking.parameters import SPACE, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy
from hmpc_ros.policy.tracking.rehearsal import Rehearsed
from hmpc_ros.policy.tracking.solver import TrackingSolverOptions
from hmpc_ros.policy.tracking.student import (
    SCENES,
    Teacher,
    flown_cost,
    flown_slopes,
    for_people,
    in_turn,
    noise,
)

Values = Mapping[str, Any]

HOVER = 10.0  # s that count of a reference that never ends
# Flights that are kept to identify from; older ones are of a vehicle of long ago.
KEPT = 3
# Standard deviation of measured positions [m] from which costs are noisy: motion alone looks like
# a sixtieth of it (third differences of an eight at 3.8 m/s and 100 Hz).
NOISY = 1e-3
#: Of the trust region at the start, on a vehicle that may not fall: weights change by e^0.5.
VEHICLE_RADIUS = 0.5
#: Paths to be flown beside the one that is learned on, by name: in what their references differ.
HELDOUT: dict[str, dict[str, Any]] = {
    'circle': {'kind': 'circle', 'size': [1.5], 'rate': 1.4},  # 2.1 m/s
    'tilted_circle': {'kind': 'tilted_circle', 'size': [1.5], 'rate': 1.4},
    'slower_eight': {'kind': 'lissajous', 'size': [1.5, 0.75], 'rate': 1.2},
    'faster_eight': {'kind': 'lissajous', 'size': [1.5, 0.75], 'rate': 1.8},  # 3.8 m/s
}


@dataclass(frozen=True, eq=False)
class TrackingObjective:
    """What a flight along a reference costs, as the learner sees it: from what was measured."""

    teacher: Teacher

    def cost(self, flight: flying.TrackedFlight) -> Outcome:
        """Cost a flight [m^2]; one that is not whole, or was not solved throughout, infinity."""
        t = self.teacher
        if not flight.complete or flight.failures or not np.isfinite(flight.measured).all():
            return Outcome(math.inf, math.inf, math.inf)
        J = flown_cost(flight, t.costs, self._believed, t.begin, t.end)
        return Outcome(J, 0.0, J)

    def derivatives(self, flight: flying.TrackedFlight) -> tuple[np.ndarray, np.ndarray]:
        """Return dJ/dx (T+1, 12), x the errors, and dJ/du (T, 4)."""
        t = self.teacher
        return flown_slopes(flight, t.costs, self._believed, t.begin, t.end)

    @property
    def _believed(self) -> Drag:
        start = self.teacher.start
        return Drag(float(start.thrust_gain[0]), start.drag)

    def for_people(self, flight: flying.TrackedFlight) -> dict[str, float | None]:
        """Return the true RMSE and largest error."""
        return for_people(flight, self.teacher.begin, self.teacher.end)


@dataclass(eq=False)
class TrackingModel:
    """Implements `hmpc_ros.learning.model.Model` by a `Teacher`.

    Attributes:
        teacher: What is known before any flight.
        executor: Where rehearsals are flown; None: here, in turn.
        rng: The iteration's randomness.
    """

    teacher: Teacher
    executor: Executor | None
    rng: np.random.Generator
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    widest = 2 * REACH
    wants_solutions = False
    kept = ()

    def __post_init__(self) -> None:
        self._flights: list[Recording] = []

    @property
    def noisy(self) -> bool:
        """Whether positions are measured with noise."""
        return any(np.any(noise(f.states)[:3] > NOISY) for f in self._flights)

    def learn(self, flown: Sequence[Evaluation], again: Point | None = None) -> None:  # noqa: ARG002
        """Remember what was measured and commanded in whole flights."""
        whole: list[Any] = [e.flight for e in flown if e.outcome.finite]
        h = self.teacher.time_step
        found = [_recording(flight.measured, flight.inputs, h) for flight in whole]
        self._flights = [*self._flights, *found][-KEPT:]

    def keep(self, flown: Sequence[Evaluation]) -> dict[str, Any]:  # noqa: ARG002
        """Return nothing: rehearsals are of the reference, not of flights."""
        return {}

    def cost(self, parameters: Parameters) -> float:  # noqa: ARG002
        """Return NaN: vehicles in rehearsals are worse on purpose, so flights alone tell J."""
        return math.nan

    def rescue(self) -> None:
        """Know nothing: without a whole flight nothing is identified."""

    def improve(self, base: Point, region: Region, new: bool = False) -> Proposal:  # noqa: ARG002
        """Identify, rehearse, tune."""
        best = TrackingParameters.from_theta(base.parameters.theta)
        rng = np.random.default_rng(int(self.rng.integers(2**31)))
        with giving_way():
            taught = self.teacher.teach(self._flights, best, region.radius, rng, self._over)
        self.details = {
            'promised': taught.promised,
            'identified': taught.identified.as_dict(),
            'rehearsed_rmse_m': taught.tuned.rmse,
            'rehearsals': taught.tuned.rehearsals,
        }
        candidate = base.parameters.with_theta(taught.parameters.theta)
        return Proposal(candidate, region.radius, taught.promised - base.J, boundary=True)

    def explore(self, incumbent: Point, region: Region, turn: int) -> Proposal:  # noqa: ARG002
        """Rehearse from the incumbent: with vehicles and noise drawn afresh."""
        return self.improve(incumbent, region)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the flights."""
        flights = list(enumerate(self._flights))
        measured = {f'measured_{i}': flight.states for i, flight in flights}
        return measured | {f'commands_{i}': flight.commands for i, flight in flights}

    def restore(self, memory: Memory) -> None:
        """Take over what `arrays` returned."""
        self._flights = kept_flights(memory, self.teacher.time_step)

    def _over(
        self, function: Callable[..., Rehearsed], arguments: Sequence[tuple]
    ) -> Sequence[Rehearsed]:
        if self.executor is None:
            return in_turn(function, arguments)
        return list(self.executor.map(function, *zip(*arguments, strict=True)))


def kept_flights(memory: Memory, time_step: float) -> list[Recording]:
    """Return the flights that `TrackingModel.arrays` keeps; none are in what others keep."""
    count = sum(name.startswith('measured_') for name in memory)
    kept = [(memory[f'measured_{i}'], memory[f'commands_{i}']) for i in range(count)]
    return [_recording(*flight, time_step) for flight in kept]


def _recording(measured: np.ndarray, commands: np.ndarray, time_step: float) -> Recording:
    return Recording(time_step * np.arange(len(measured)), measured, commands)


def default_rule(
    learner: Values,
    known: Teacher,
    start: Parameters,
    executor: Executor | None,
    radius: float = REACH,
) -> TrustRegionRule:
    """Return the default rule; of its settings, the region and probes are not for this policy.

    Args:
        learner: the learner's values.
        known: before any flight.
        start: what the run starts with.
        executor: rehearses; None: this process.
        radius: of the trust region at the start, the largest change of a logarithm.
    """
    settings = build_linear.dataclass_from(Settings, learner, 'trust_region.')
    settings = replace(settings, probes=0, radius=radius)
    return TrustRegionRule(start, partial(TrackingModel, known, executor), settings)


@dataclass(frozen=True, eq=False)
class TrackingFlyer:
    """Flies requests on the simulated vehicle; the number of a flight selects noise and wind."""

    simulator: FlightSimulator
    policy: TrackingPolicy
    reference: Reference
    steps: int
    region: float = math.inf

    def __call__(self, request: FlightRequest) -> flying.TrackedFlight:
        """Fly a request."""
        self.policy.use(request.parameters)
        return flying.fly(
            self.simulator, self.policy, self.reference, self.steps,
            flight_number=request.number, keep_solutions=request.with_solutions,
            region=self.region,
        )  # fmt: skip


def teacher(configuration: Configuration) -> Teacher:
    """Return what is known before any flight.

    Raises:
        ValueError: values do not go together, or the reference comes over ROS.
    """
    preset = build.assumed(configuration)
    controller = build.started(configuration['controller'], preset)
    if controller['reference.kind'] == 'topic':
        raise ValueError('reference.kind topic comes over ROS: there is no flight to fly again')
    reference, _ = build.reference(configuration)
    begin, end = counted(controller, reference)
    return Teacher(
        preset,
        build.limits(controller, preset),
        build.parameters(controller, preset),
        reference,
        begin,
        end,
        controller['time_step'],
    )


def counted(controller: Values, reference: Reference) -> tuple[float, float]:
    """Return begin and end of what counts of a flight [s].

    Raises:
        ValueError: that is nothing.
    """
    begin = controller['tracking.rmse_after']
    end = min(performance.steady_end(reference), reference.duration)
    if not math.isfinite(end):
        end = begin + HOVER
    if end - begin < 1.0:
        raise ValueError(
            f'a flight is judged from tracking.rmse_after = {begin:g} s on, but the reference ends '
            f'after {end:g} s'
        )
    return begin, end


def steps(known: Teacher) -> int:
    """Return the control steps of a flight, to the end of what counts of it."""
    return steps_to(known.end, known.time_step)


def steps_to(end: float, time_step: float) -> int:
    """Return the control steps to a time [s]."""
    return math.ceil(end / time_step - 1e-9)


def flight_steps(configuration: Configuration) -> int:
    """Return the control steps of a flight that is learned from; raises ValueError."""
    reference, _ = build.reference(configuration)
    _, end = counted(configuration['controller'], reference)
    return steps_to(end, configuration['controller']['time_step'])


def train_offline(
    configuration: Configuration,
    out: Path,
    on_start: Callable[[TrainingRun], None] | None = None,
    on_record: Callable[[TrainingRun, Record], None] | None = None,
    jobs: int = 1,
) -> TrainingRun:
    """Start or go on with a training run of the tracking MPC, and fly it here; see `train`."""
    known = teacher(configuration)
    fly = flyer(configuration, known)
    return train(configuration, known, fly, out, on_start, on_record, jobs)


def flyer(configuration: Configuration, known: Teacher) -> TrackingFlyer:
    """Return who flies what is known, here."""
    return TrackingFlyer(
        build.simulator(configuration['simulator']),
        build.policy(configuration),
        known.reference,
        steps(known),
        configuration['learner']['envelope.position'],
    )


def heldout(
    configuration: Configuration, before: Parameters, after: Parameters
) -> dict[str, dict[str, Any]]:
    """Fly the paths that nothing is learned on, under two sets of parameters.

    What a vehicle cannot fly so fast is flown slower.

    Returns:
        By path: ``before_m`` and ``after_m``, the true RMSE [m], None where it was not flown whole.
    """
    found = {}
    for name, values in HELDOUT.items():
        given = {f'reference.{key}': value for key, value in values.items()}
        controller = {**configuration['controller'], **given, 'reference.infeasible': 'slow'}
        other = Configuration({**configuration.nodes, 'controller': controller})
        known = teacher(other)
        fly = flyer(other, known)
        errors = {}
        for key, parameters in (('before_m', before), ('after_m', after)):
            flight = fly(FlightRequest(parameters, CLOSING))
            whole = flight.complete and not flight.failures
            people = for_people(flight, known.begin, known.end)
            errors[key] = people['rmse_m'] if whole else None
        found[name] = errors
    return found


def heldout_of(
    configuration: Configuration, header: Record, records: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """Fly the held-out paths under the first and the best weights of a run; see `heldout`.

    Raises:
        ValueError: it is no run of the tracking MPC.
    """
    if configuration['controller']['policy.kind'] != 'tracking':
        raise ValueError('learner.heldout is for the tracking MPC: leave it false')
    best = best_record(list(records))
    before = Parameters(SPACE, np.array(header['theta']))
    after = before if best is None else recorded(before, best)
    return heldout(configuration, before, after)


def train(
    configuration: Configuration,
    known: Teacher,
    fly: Callable[[FlightRequest], flying.TrackedFlight],
    out: Path,
    on_start: Callable[[TrainingRun], None] | None = None,
    on_record: Callable[[TrainingRun, Record], None] | None = None,
    jobs: int = 1,
    radius: float = REACH,
    rule: Rule | None = None,
    start: Parameters | None = None,
) -> TrainingRun:
    """Start or go on with a training run of the tracking MPC, and fly it to its end.

    Args:
        configuration: what to run.
        known: of the configuration.
        fly: flies a request.
        out: its results folder.
        on_start: called with the run before its first flight.
        on_record: called with the run and each record that was kept.
        jobs: processes that rehearse, beyond one per scene of no use; the results are the same.
        radius: of the rule's trust region at the start; a vehicle that may not fall wants a small
            one.
        rule: learns; the configured one if None.
        start: what it begins with; what is known if None.

    Raises:
        ValueError: the configuration contradicts itself.
        ResultsError: the folder is in use, damaged, or holds another run.
    """
    learner = configuration['learner']
    start = start or Parameters(SPACE, known.start.theta)
    with process_pool(max(1, min(jobs, SCENES)), give_way) as pool:
        if rule is None:
            if learner['rule'] == 'trust_region':
                over = started(pool, min(jobs, SCENES)) if jobs > 1 else None
                rule = default_rule(learner, known, start, over, radius)
            else:
                rule = tracking_rules.rule(learner, known, start)
        with open_run(
            out, _header(configuration.nodes, start), rule, TrackingObjective(known), start,
            iterations=learner['iterations'], flights=learner['flights'],
        ) as run:  # fmt: skip
            if on_start:
                on_start(run)
            fly_in_turn(run, fly, lambda record: on_record(run, record) if on_record else None)
    return run


def refuse_other_rules(learner: Values) -> None:
    """Raise ValueError unless the rule learns from what nodes tell of a flight.

    The others need its solutions, which nodes keep to themselves.
    """
    if (rule := learner['rule']) != 'trust_region':
        raise ValueError(
            f"over ROS the tracking MPC learns by the default rule, trust_region, not by '{rule}': "
            'for that one, hmpc train --config tracking'
        )


def write_best(run: TrainingRun, known: Teacher, folder: Path) -> None:
    """Write the best weights of a run for the controller's ``weights_file``, if there are any."""
    best = best_record(run.results.records)
    if best is not None:
        policy = build.entries(recorded(Parameters(SPACE, known.start.theta), best).theta)
        horizon = TrackingSolverOptions().horizon
        path = folder / BEST_WEIGHTS_FILE
        write_weights(path, policy, known.preset.name, horizon, origin(best))


def _header(nodes: Mapping[str, Values], start: Parameters) -> dict[str, Any]:
    return describe(nodes, start, 'tracking', TrackingSolverOptions().horizon)


# What may be otherwise when a run with a vehicle goes on: what learner and flights change, and how
# the nodes were started.
_MAY_DIFFER: MayDiffer = {
    'controller': (*LEARNED['tracking'], 'reference.begin', 'weights_file', 'autostart'),
    'simulator': (
        'episode_steps', 'next_flight', 'next_start', 'start_paused', 'resend_period',
        'real_time_factor',
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrackingVehicleTraining:
    """All that a training run needs whose flights somebody else flies; see `VehicleTraining`."""

    rule: TrustRegionRule
    objective: TrackingObjective
    envelope: Envelope
    start: Parameters
    header: dict[str, Any]
    preset: str
    thinks_long = True

    def refuse_another_controller(self, controller: Values) -> None:
        """Raise ValueError unless a controller that came back is what was learned with."""
        refuse_other_values(controller, self.header, _MAY_DIFFER)

    def understood(
        self, _request: FlightRequest, flight: flying.TrackedFlight
    ) -> flying.TrackedFlight:
        """Return the flight: nothing is to be found out about it."""
        return flight

    def write_weights(
        self, path: Path, policy: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        """Write weights for the controller's ``weights_file``."""
        write_weights(path, policy, self.preset, self.header['horizon'], about)


def vehicle_training(
    nodes: Mapping[str, Values], folder: Path, resources: ExitStack
) -> TrackingVehicleTraining:
    """Build everything for flights that somebody else flies.

    Args:
        nodes: Values of ``controller`` (as it flies) and ``learner``, and of ``simulator`` where
            there is one, for the record only.
        folder: The results folder. Of a run that is in it already, the start weights are taken.
        resources: Takes the processes that rehearse, to be ended with the run.

    Raises:
        ValueError: some values do not go together.
        ResultsError: the folder is damaged.
    """
    of_run, _ = as_begun(nodes, folder, _MAY_DIFFER)
    refuse_other_rules(of_run['learner'])
    # What the controller read from its weights file is among its parameters.
    flown = {**of_run, 'controller': {**of_run['controller'], 'weights_file': ''}}
    known = teacher(Configuration({**build.alone(flown['controller']).nodes, **flown}))
    start = Parameters(SPACE, known.start.theta)
    pool = resources.enter_context(process_pool(SCENES, give_way))
    return TrackingVehicleTraining(
        default_rule(
            of_run['learner'], known, start, pool,
            VEHICLE_RADIUS if of_run['learner']['reset'] == 'fly' else REACH,
        ),
        TrackingObjective(known),
        build_linear.dataclass_from(Envelope, of_run['learner'], 'envelope.'),
        start,
        _header(of_run, start),
        known.preset.name,
    )
