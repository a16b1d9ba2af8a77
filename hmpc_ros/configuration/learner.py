"""From values to objects, the learner's part: objective, rule, and a whole offline run."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration import build
from hmpc_ros.configuration.files import from_values
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.tables import LEARNING
from hmpc_ros.configuration.weights_file import write_weights
from hmpc_ros.learning.adam import AdamRule
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.learning.estimators import ControlVariate, Hybrid, ModelBased, ZerothOrder
from hmpc_ros.learning.objective import Objective
from hmpc_ros.learning.parallel import fly_at_once, fly_in_turn
from hmpc_ros.learning.rehearsed_model import RehearsedModel
from hmpc_ros.learning.results import HEADER, read_header
from hmpc_ros.learning.rollout import OfflineFlyer, Task
from hmpc_ros.learning.rules import PaperRule
from hmpc_ros.learning.safety import Envelope, Safeguard
from hmpc_ros.learning.schedules import StepSize, Trust, convergence_warnings
from hmpc_ros.learning.training import open_run
from hmpc_ros.learning.trust_region import Settings, TrustRegionRule
from hmpc_ros.plant.quadcopter import NX
from hmpc_ros.plant.surrogate import Surrogate
from hmpc_ros.policy.flight import resolved
from hmpc_ros.policy.linear.flying import Rollout
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.unconstrained import OfflineMpc
from hmpc_ros.policy.linear.weights import SLACK, Weights, parameters_of, space
from hmpc_ros.policy.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import ExitStack

    from hmpc_ros.configuration.build import Values
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.learning.estimators import Estimator
    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.rules import Rule
    from hmpc_ros.learning.training import TrainingRun
    from hmpc_ros.plant.linear_model import LinearModel
    from hmpc_ros.plant.protocol import PlantJacobians
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.linear.limits import Limits
    from hmpc_ros.policy.parameters import ParameterSpace

# The rule that takes several tasks.
SEVERAL_TASKS = 'trust_region'


def objective(learner: Values, limits: Limits) -> Objective:
    """Return the closed-loop objective ``objective.*`` with the controller's state bounds."""
    return build.dataclass_from(Objective, learner, 'objective.', state_max=limits.state_max)


def schedules(learner: Values) -> tuple[StepSize, Trust]:
    """Return alpha_k and eta_k; the trust of an estimator that mixes nothing is what it uses."""
    fixed = {'model_based': Trust(1.0, 0.0), 'zeroth_order': Trust(0.0)}
    trust = fixed.get(learner['estimator'], build.dataclass_from(Trust, learner, 'trust.'))
    return build.dataclass_from(StepSize, learner, 'step_size.'), trust


def warnings(learner: Values) -> list[str]:
    """Name the conditions of the convergence proof that the schedules violate."""
    if learner['rule'] != 'paper':
        return []  # the proof is about the paper's rule
    if learner['estimator'] == 'model_based' and learner['jacobians'] == 'vehicle':
        return []  # the gradient is exact: no trust that has to fade
    return convergence_warnings(*schedules(learner))


def estimator(learner: Values, model_based: ModelBased) -> Estimator:
    """Return the estimator of the gradient that is configured."""
    free = build.dataclass_from(ZerothOrder, learner)
    _, trust = schedules(learner)
    kind = learner['estimator']
    if kind == 'model_based':
        return model_based
    if kind == 'zeroth_order':
        return free
    return (Hybrid if kind == 'hybrid' else ControlVariate)(model_based, free, trust)


def start_of(learner: Values, mpc: OfflineMpc) -> Parameters:
    """Return the parameters that the MPC has, in the set ``box.*`` that theta is kept in.

    Raises:
        ValueError: they are outside that set.
    """
    start = parameters_of(mpc.weights, mpc.model, within(learner))
    start.space.refuse_outside(start.theta)
    return start


def within(learner: Values) -> ParameterSpace:
    """Return the set that theta is kept in."""
    return space(
        learner['box.q'], learner['box.r'], learner['box.p'], learn_slack=learner['learn_slack']
    )


def safeguard(learner: Values) -> Safeguard | None:
    """Return who decides what is kept, None where everything is."""
    if not learner['rollback.enabled']:
        return None
    return build.dataclass_from(Safeguard, learner, 'rollback.')


def envelope(learner: Values, limits: Limits) -> Envelope:
    """Return the bounds ``envelope.*`` that end a flight, with the controller's state bounds."""
    bounds = tuple(limits.state_max.tolist())
    return build.dataclass_from(Envelope, learner, 'envelope.', state_max=bounds)


def rule(
    learner: Values,
    gradient: FlightGradient[OfflineMpc, Objective],
    start: Parameters,
    model: LinearModel,
) -> Rule:
    """Return the update rule.

    Args:
        learner: The learner's values.
        gradient: Of flights, with the learner's own copy of the policy.
        start: What the run starts with.
        model: Of the plant, which a surrogate corrects.
    """
    step_size, _ = schedules(learner)
    if learner['rule'] == SEVERAL_TASKS:
        surrogate = functools.partial(Surrogate, model, gradient.objective.state_max)
        several = max(1, len(learner['tasks.goals']) // 4, len(learner['tasks.starts']) // 4)
        settings = build.dataclass_from(Settings, learner, 'trust_region.')
        known = gradient.policy, gradient.objective, start, surrogate, several
        rehearsed = functools.partial(RehearsedModel, *known, settings.rehearsals, settings.refit)
        return TrustRegionRule(start, rehearsed, settings, several)
    gradients = estimator(learner, ModelBased(gradient))
    if learner['rule'] == 'adam':
        return AdamRule(gradients, learner['adam.learning_rate'], safeguard(learner))
    return PaperRule(gradients, step_size, safeguard(learner))


def tasks(learner: Values, goal: Goal, start: tuple[float, ...]) -> tuple[Task, ...]:
    """Return the tasks ``tasks.*``; none where there is only the one from start to goal.

    Goal and start state are those of all tasks that have none of their own.

    Raises:
        ValueError: the numbers do not make whole tasks, or not as many starts as goals, or the rule
            knows one task only.
    """
    goals, starts = (np.array(learner[f'tasks.{name}']) for name in ('goals', 'starts'))
    for name, numbers in (('goals', goals), ('starts', starts)):
        if numbers.size % 4:
            raise ValueError(f'tasks.{name} needs x, y, z and yaw of each, got {numbers.size}')
    if goals.size and starts.size and goals.size != starts.size:
        raise ValueError(
            f'tasks.goals has {goals.size // 4} tasks, but tasks.starts {starts.size // 4}'
        )
    count = max(goals.size, starts.size) // 4
    if count and learner['rule'] != SEVERAL_TASKS:
        raise ValueError(f'several tasks need the rule {SEVERAL_TASKS}, not {learner["rule"]}')
    found = []
    for i in range(count):
        task = Task(goal, start)
        if goals.size:
            task = replace(task, goal=_pose(goals[4 * i : 4 * i + 4]))
        if starts.size:
            task = replace(task, start=tuple(_pose(starts[4 * i : 4 * i + 4]).state.tolist()))
        found.append(task)
    return tuple(found)


def _pose(numbers: np.ndarray) -> Goal:
    x, y, z, yaw = numbers.tolist()
    return Goal((x, y, z), yaw)


@dataclass(frozen=True, eq=False)
class OfflineTraining:
    """All that a training run without ROS needs."""

    rule: Rule  #: the update rule
    objective: Objective  #: what flights cost
    fly: OfflineFlyer  #: flies requests by rollout
    start: Parameters  #: what the run starts with
    rollout: Rollout  #: what flies them


def offline_training(configuration: Configuration) -> OfflineTraining:
    """Build everything that a configuration says, for flights without ROS.

    Raises:
        ValueError: some values do not go together.
    """
    simulator, controller, learner = (
        configuration[node] for node in ('simulator', 'controller', 'learner')
    )
    if simulator['time_step'] != controller['time_step']:
        raise ValueError(
            f"the simulator's time_step {simulator['time_step']} s and the controller's "
            f'{controller["time_step"]} s must be the same'
        )
    mpc = OfflineMpc(build.mpc(controller), shortcut=learner['shortcut'])
    costs = objective(learner, mpc.limits)
    vehicle = build.vehicle(simulator)
    plant: PlantJacobians = vehicle.quadcopter if learner['jacobians'] == 'vehicle' else mpc.model
    start = start_of(learner, mpc)
    only = Task(build.goal(controller), tuple(simulator['initial_state']))
    rollout = Rollout(vehicle, mpc, learner['steps'], build.safety(controller))
    return OfflineTraining(
        rule=rule(learner, FlightGradient(mpc, plant, costs), start, mpc.model),
        objective=costs,
        fly=OfflineFlyer(
            mpc,
            rollout,
            tasks(learner, only.goal, only.start) or (only,),
            envelope(learner, mpc.limits),
        ),
        start=start,
        rollout=rollout,
    )


def header(configuration: Configuration, training: OfflineTraining) -> dict[str, Any]:
    """Describe an offline run for its results folder."""
    mpc = training.rollout.mpc.mpc
    return describe(configuration.nodes, training.start, mpc.model.identity, mpc.horizon)


def describe(
    nodes: Mapping[str, Values], start: Parameters, model: str, horizon: int
) -> dict[str, Any]:
    """Describe a run for its results folder: what decides its numbers, and where it came from.

    ``model`` is the identity of what the MPC of this horizon assumes.
    """
    kept = {node: dict(nodes[node]) for node in _NODES if node in nodes}
    kept['learner'] = {name: kept['learner'][name] for name in LEARNING}
    if kept['controller']['model.file']:
        kept['controller']['model.file'] = str(Path(kept['controller']['model.file']).absolute())
    return {
        **provenance(),
        'seed': kept['learner']['seed'],
        'configuration': kept,
        'theta': start.theta,
        'fixed': dict(start.fixed),
        'horizon': horizon,
        'model': {'identity': model},
    }


_NODES = ('simulator', 'controller', 'learner')


# What may be otherwise when a run with a vehicle goes on: the weights, which it changes itself, and
# how the nodes were started.
MayDiffer = Mapping[str, tuple[str, ...]]
_MAY_DIFFER: MayDiffer = {
    'controller': (
        'policy.q', 'policy.r', 'policy.p', 'policy.slack', 'policy.model', 'weights_file',
        'autostart',
    ),
    'simulator': (
        'episode_steps', 'next_flight', 'start_paused', 'resend_period', 'real_time_factor',
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class VehicleTraining:
    """All that a training run needs whose flights somebody else flies.

    Attributes:
        thinks_long: Whether a report of a flight may take seconds.
    """

    rule: Rule  #: the update rule
    objective: Objective  #: what flights cost
    envelope: Envelope  #: where a flight is cut short
    mpc: OfflineMpc  #: the learner's own copy of the controller's MPC
    start: Parameters  #: what the run starts with
    model_source: LinearModel  #: the controller's own model, which learned ones take the place of
    #: describes the run; that of the run that is in the folder, where values may differ
    header: dict[str, Any]

    thinks_long = False

    def refuse_another_controller(self, controller: Values) -> None:
        """Raise ValueError unless a controller that came back is what was learned with."""
        if not build.model(controller).same_as(self.model_source):
            raise ValueError('the controller came back with another model')
        refuse_other_values(controller, self.header, _MAY_DIFFER)

    def understood(self, request: FlightRequest, flight: Flight) -> Flight:
        """Return a flight with the solutions behind its commands where they are asked for."""
        if not request.with_solutions or not flight.complete:
            return flight
        self.mpc.use(request.parameters)
        return resolved(flight, self.mpc)

    def write_weights(
        self, path: Path, policy: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        """Write weights for the controller's ``weights_file``."""
        write_weights(path, policy, self.model_source.identity, self.header['horizon'], about)


def refuse_other_values(
    controller: Values, header: Mapping[str, Any], may_differ: MayDiffer
) -> None:
    """Raise ValueError unless a controller has the values that a run's header tells."""
    known = header['configuration']['controller']
    for name, value in controller.items():
        if name not in may_differ['controller'] and known[name] != value:
            raise ValueError(
                f'the controller came back with {name} = {value}, before it was {known[name]}'
            )


def as_begun(
    nodes: Mapping[str, Values], folder: Path, may_differ: MayDiffer
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Return the nodes' values as a run began with them, and its header if it did already.

    Raises:
        ResultsError: the folder is damaged.
    """
    of_run = {node: dict(values) for node, values in nodes.items()}
    kept = read_header(folder) if (folder / HEADER).exists() else None
    if kept is not None:
        for node, names in may_differ.items():
            for name in set(names) & set(of_run.get(node, ())):
                of_run[node][name] = kept['configuration'].get(node, {}).get(name)
    return of_run, kept


def check(learner: Values) -> None:
    """Raise ValueError when a learner's values do not go together for flights over ROS."""
    if learner['jacobians'] == 'vehicle':
        raise ValueError(
            "jacobians = vehicle needs the simulated vehicle's equations, which a learner over ROS "
            'does not see: train offline, with hmpc train'
        )
    tasks(learner, Goal(), (0.0,) * NX)
    schedules(learner)
    safeguard(learner)


def vehicle_training(
    nodes: Mapping[str, Values], folder: Path, _resources: ExitStack
) -> VehicleTraining:
    """Build everything for flights that somebody else flies.

    Args:
        nodes: Values of ``controller`` (as it flies) and ``learner``, and of ``simulator`` where
            there is one, for the record only.
        folder: The results folder. Of a run that is in it already, the start weights are taken.
        _resources: Takes what has to be closed at the end of the run: nothing.

    Raises:
        ValueError: some values do not go together.
        ResultsError: the folder is damaged.
    """
    of_run, kept = as_begun(nodes, folder, _MAY_DIFFER)
    controller, learner = of_run['controller'], of_run['learner']
    source = build.model(controller)
    model = build.flying_model(controller, source)
    weights = (
        build.weights(controller, model)
        if kept is None
        else Weights.of(
            Parameters(
                within(learner),
                np.array(kept['theta']),
                {'slack': SLACK.ravel(), **{n: np.array(v) for n, v in kept['fixed'].items()}},
            )
        )
    )
    mpc = OfflineMpc(
        Mpc(model, build.limits(controller), weights, controller['horizon']),
        shortcut=learner['shortcut'],
    )
    costs, start = objective(learner, mpc.limits), start_of(learner, mpc)
    return VehicleTraining(
        rule=rule(learner, FlightGradient(mpc, model, costs), start, model),
        objective=costs,
        envelope=envelope(learner, mpc.limits),
        mpc=mpc,
        start=start,
        model_source=source,
        header=describe(of_run, start, mpc.model.identity, mpc.mpc.horizon),
    )


def train_offline(
    configuration: Configuration,
    out: Path,
    on_start: Callable[[TrainingRun], None] | None = None,
    on_record: Callable[[TrainingRun, Record], None] | None = None,
    executor: Executor | None = None,
) -> TrainingRun:
    """Start or go on with the training run of a configuration, and fly it to its end.

    Args:
        configuration: What to run.
        out: Its results folder.
        on_start: Called with the run before its first flight.
        on_record: Called with the run and each record that was kept.
        executor: Flies what is due at the same time; None: this process, one after the other. The
            results are the same (see `hmpc_ros.learning.parallel`).

    Returns:
        The finished run; its ``results`` are closed and hold all records.

    Raises:
        ValueError: the configuration contradicts itself.
        ResultsError: the folder is in use, damaged, or holds another run.
    """
    training, learner = offline_training(configuration), configuration['learner']
    with open_run(
        out, header(configuration, training), training.rule, training.objective, training.start,
        iterations=learner['iterations'], flights=learner['flights'],
    ) as run:  # fmt: skip
        if on_start:
            on_start(run)

        def told(record: Record) -> None:
            if on_record:
                on_record(run, record)

        if executor is None:
            fly_in_turn(run, training.fly, told)
        else:
            key = json.dumps(configuration.nodes, sort_keys=True)
            fly_at_once(run, lambda request: executor.submit(_fly_as_worker, key, request), told)
    return run


def _fly_as_worker(nodes: str, request: FlightRequest) -> Flight:
    """Fly a request in a worker, which keeps what it built for the next request of the run."""
    return _workers_training(nodes).fly(request)


@functools.lru_cache(maxsize=1)
def _workers_training(nodes: str) -> OfflineTraining:
    return offline_training(from_values(json.loads(nodes)))
