"""Every parameter of every node, by node: name, default, meaning, unit and range.

What becomes a field of a dataclass, or a block of a policy's parameters, is declared there, once,
and derived here (`declared`). What is written out here becomes no field of anything: it chooses
what is built (a kind, a source, a rule), is an argument of something that is no dataclass, names a
file, a frame or another node, or is about what a node does with its flights.
"""

import math
from typing import Any

from hmpc_ros.configuration import autopilot_tables, tracking_tables
from hmpc_ros.configuration.schema import Parameter, declared, fixed, table
from hmpc_ros.learning.estimators import ZerothOrder
from hmpc_ros.learning.objective import Objective
from hmpc_ros.learning.safety import Envelope, Safeguard
from hmpc_ros.learning.schedules import StepSize, Trust
from hmpc_ros.learning.trust_region import Settings
from hmpc_ros.plant.quadcopter import INTEGRATORS, NU, NX, TIME_STEP, QuadcopterParameters
from hmpc_ros.plant.vehicle import Imperfections
from hmpc_ros.policy.flight_controller import Safety
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.identification import FlightPlan
from hmpc_ros.policy.linear.limits import SLACK_L1, Limits
from hmpc_ros.policy.linear.mpc import HORIZON
from hmpc_ros.policy.linear.weights import N_THETA, SPACE
from hmpc_ros.policy.parameters import Block

# A line for name and default, one for the meaning, one for unit and range.
# fmt: off

_TIME_STEP = fixed('time_step', TIME_STEP, 'length of a control step', 's', lower=1e-4, upper=1.0)

SIMULATOR = table(
    _TIME_STEP,
    fixed(
        'integrator', INTEGRATORS[0],
        'integration of the dynamics; the reference experiment uses euler',
        choices=INTEGRATORS,
    ),
    fixed('substeps', 1, 'integration steps in a control step', lower=1, upper=1000),
    fixed(
        'real_time_factor', 1.0,
        'simulated over wall-clock time; 0: lockstep, as fast as the controller answers',
        lower=0.0, upper=100.0,
    ),
    Parameter('initial_state', [0.0] * NX, 'state at the start of every flight', length=NX),
    Parameter(
        'episode_steps', 0,
        'steps after a reset at which the simulator holds until the next one; 0: never',
        lower=0,
    ),
    Parameter(
        'next_flight', -1,
        'number of the flight that the next reset begins, which selects its noise; '
        '-1: one more than the last',
        lower=-1,
    ),
    fixed('start_paused', False, 'wait for the first ~/reset before flying'),
    *declared(QuadcopterParameters, 'vehicle.', 'simulated vehicle: '),
    *declared(Imperfections, ''),
    fixed('seed', 0, 'seed of noise and gusts', lower=0),
    fixed('frame_id', 'map', 'world frame of the odometry (ENU)'),
    fixed('child_frame_id', 'base_link', 'body frame of the odometry (FLU)'),
    fixed(
        'resend_period', 0.2,
        'in lockstep, wall-clock time after which an unanswered state is sent again',
        's', lower=0.01, upper=3600.0,
    ),
    *tracking_tables.SIMULATOR,
)

# What the weights are at first, and what stands for those that are not given.
_FIRST: dict[str, list[float]] = {'q': [1.0] * 6 + [math.sqrt(0.1)] * 6, 'r': [0.1] * NU}
_EMPTY = {
    'p': 'from the Riccati equation of the model, q and r', 'slack': f'{SLACK_L1:g} each',
    'model': 'as model.source says',
}


def _policy(block: Block) -> Parameter:
    """Declare a block of the linear MPC's parameters; the learner has a range of its own."""
    empty = _EMPTY.get(block.name)
    most = f'; at most {block.upper:g}' if block.name in ('q', 'r', 'p') else ''
    between: Any = {'lower': block.lower, 'upper': block.upper} if block.name == 'slack' else {}
    return Parameter(
        f'policy.{block.name}', _FIRST.get(block.name, []),
        block.meaning + most + (f'; empty: {empty}' if empty else ''),
        length=block.size, may_be_empty=empty is not None, **between,
    )


CONTROLLER = table(
    fixed('autostart', True, 'configure and activate the node when it starts'),
    _TIME_STEP,
    fixed('horizon', HORIZON, 'prediction horizon in steps', lower=1, upper=200),
    *tracking_tables.CONTROLLER,
    fixed(
        'model.source', 'hover',
        'prediction model: the linearisation of vehicle.* at hover, model.file, or identified from '
        'noisy simulated flights of vehicle.* (model.identification.*)',
        choices=('hover', 'file', 'identified'),
    ),
    fixed('model.file', '', 'linear model (.npz) written by hmpc identify'),
    # Models that are wrong on purpose, to see what learning makes of them.
    fixed(
        'model.input_scale', 1.0,
        'factor on B, to study a model that is wrong in how strong the inputs are',
        lower=1e-3,
    ),
    fixed(
        'model.error_std', 0.0,
        'standard deviation of random relative errors of each entry of A - I and B, to study a '
        'model that is wrong everywhere',
        lower=0.0,
    ),
    fixed('model.seed', 0, 'seed of model.error_std and of model.source: identified', lower=0),
    *declared(FlightPlan, 'model.identification.', defaults={'flights': 10, 'steps': 30}),
    fixed(
        'model.identification.noise', 0.02,
        'standard deviation of the noise on each measured state of these flights',
        lower=0.0,
    ),
    *declared(QuadcopterParameters, 'vehicle.', 'vehicle the MPC assumes: '),
    *(_policy(block) for block in SPACE.blocks),
    Parameter(
        'policy.lease', 0.0,
        'how long the policy.* of the same request fly unless all are set again; then the '
        'controller goes back to the last weights that were set with 0, which stay',
        's', lower=0.0, upper=3600.0,
    ),
    fixed(
        'weights_file', '',
        'learned weights (written by hmpc learn) that replace policy.* at the start; '
        'refused when they were learned for another model or horizon',
    ),
    *declared(Limits, 'limits.', read_only=False),
    *declared(Goal, 'goal.', read_only=False),
    *declared(Safety, '', read_only=False),
    fixed('frame_id', 'map', 'world frame the odometry must be given in'),
)

VISUALIZER = table(
    Parameter('path_length', 2000, 'poses kept of the flown path', lower=2, upper=1_000_000),
    Parameter(
        'arm_length', QuadcopterParameters.arm_length, 'size of the drawn vehicle',
        'm', lower=1e-3,
    ),
)

WEB = table(
    fixed(
        'host', '127.0.0.1',
        'address the page listens at; any but one of this machine alone asks visitors for a token',
    ),
    fixed('port', 8080, 'its port; 0: any that is free', lower=0, upper=65535),
    fixed('learner', 'learner', 'name of the learner that is shown'),
    fixed('adapter', 'mavlink_adapter', "name of the autopilot's adapter"),
)

# What a flight of the reference experiment costs (docs/reference_experiment.md).
_OBJECTIVE = {
    'state_weights': [1.0] * 6 + [0.1] * 6,
    'input_weights': [0.01] * NU,
    'terminal_weights': [1.0] * 6 + [1000.0] * 3 + [1.0] * 3,
    'penalty': 300.0,
}

# What decides the numbers of a training run, over ROS or offline.
LEARNING = table(
    Parameter('iterations', 200, 'iterations of the run in total', lower=0),
    fixed('seed', 0, 'seed of the random directions', lower=0),
    fixed('steps', 200, 'steps of a flight', lower=1, upper=100_000),
    Parameter(
        'flights', 0, 'no iteration begins after so many flights; 0: the iterations decide',
        lower=0,
    ),
    fixed(
        'rule', 'trust_region',
        'update rule: rehearse on what few flights taught, inside a trust region (trust_region), '
        "the paper's projected gradient step, or Adam on the gradient",
        choices=('trust_region', 'paper', 'adam'),
    ),
    fixed(
        'tasks.goals', [],
        'x, y, z [m] and yaw [rad] of the goal of each task, one after the other; the objective is '
        'the mean over the tasks; empty: all to the one goal',
        may_be_empty=True,
    ),
    fixed(
        'tasks.starts', [],
        'x, y, z [m] and yaw [rad] where each task starts at rest; empty: all at the one start',
        may_be_empty=True,
    ),
    *declared(Settings, 'trust_region.'),
    fixed('adam.learning_rate', 0.02, 'length of a step of Adam in each weight', lower=1e-12),
    fixed(
        'estimator', 'hybrid',
        'estimate of the gradient: from the model, from cost differences (zeroth_order), '
        "the paper's mixture of both, or the model's corrected by the flights (control_variate)",
        choices=('model_based', 'zeroth_order', 'hybrid', 'control_variate'),
    ),
    fixed(
        'jacobians', 'model',
        "plant Jacobians of the model-based gradient: the MPC's model, or the simulated vehicle "
        'itself (perfect knowledge, offline only)',
        choices=('model', 'vehicle'),
    ),
    *declared(ZerothOrder, '', directions={'upper': N_THETA}),
    *declared(StepSize, 'step_size.'),
    *declared(Trust, 'trust.'),
    fixed('box.q', 100.0, 'largest magnitude of a q', lower=1e-6),
    fixed('box.r', 100.0, 'largest magnitude of an r', lower=1e-6),
    fixed('box.p', 1000.0, 'largest magnitude of an entry of L', lower=1e-6),
    fixed(
        'learn_slack', False,
        'learn the costs policy.slack of violated soft bounds along with the weights',
    ),
    *declared(Objective, 'objective.', defaults=_OBJECTIVE),
    fixed(
        'rollback.enabled', False,
        'go back to the last accepted weights after a flight that is not acceptable; '
        "false: the paper's rule, which keeps all",
    ),
    *declared(Safeguard, 'rollback.'),
    *declared(Envelope, 'envelope.'),
    fixed(
        'shortcut', True, 'offline, ask acados only where a bound matters (the result is the same)',
    ),
)

# How the learner node goes about its flights. None of it decides what a run comes to: a run may be
# resumed with other values.
LEARNER_OPERATION = table(
    fixed(
        'vehicle.battery_reserve', 0.35,
        'hmpc learn --vehicle: charge below which no flight begins before the battery is changed',
        lower=0.0, upper=1.0,
    ),
    fixed(
        'vehicle.flight_time', 0.0,
        'hmpc learn --vehicle: time in control after which the battery is changed; 0: no bound',
        's', lower=0.0,
    ),
    fixed(
        'heldout', False,
        'tracking MPC, offline: after learning, fly paths that nothing was learned on under the '
        'first and the best weights, for the summary',
    ),
    fixed('autostart', True, 'begin to learn at once, without ~/start'),
    fixed(
        'results', 'results/learning',
        'folder of the results; a run that is in it already is gone on with',
    ),
    fixed('controller', 'controller', 'name of the controller node'),
    fixed('simulator', 'simulator', 'name of the simulator node, for reset: service'),
    fixed(
        'reset', 'service',
        'how the vehicle gets to the start of a flight: by the simulator service ~/reset, or by '
        'flying there under the last accepted weights',
        choices=('service', 'fly'),
    ),
    *declared(Goal, 'start.', 'start of flights for reset: fly; '),
    *declared(Goal, 'goal.', "goal of flights for reset: fly (otherwise the controller's); "),
    fixed(
        'settle.position', 0.1,
        'distance from the start within which the vehicle has arrived; for reset: fly',
        'm', lower=1e-4,
    ),
    fixed(
        'settle.velocity', 0.05, 'speed below which it has come to rest; for reset: fly',
        'm/s', lower=1e-4,
    ),
    fixed(
        'settle.time', 1.0,
        'how long (by the stamps) it must stay so before a flight begins; for reset: fly',
        's', lower=0.0,
    ),
    fixed(
        'settle.timeout', 60.0,
        'wall-clock time to get to the start before the learner complains; for reset: fly',
        's', lower=0.1,
    ),
    fixed(
        'lease', 2.0,
        'wall-clock time after which the controller drops the weights on trial by itself when '
        'nothing is heard of the learner',
        's', lower=0.2, upper=60.0,
    ),
    fixed(
        'service_timeout', 2.0, 'wall-clock time that an answer of another node may take',
        's', lower=0.01,
    ),
    fixed(
        'stall_timeout', 5.0,
        'wall-clock time without a new step after which a flight is given up and flown again',
        's', lower=0.1,
    ),
    fixed(
        'max_repeats', 5,
        'how often a flight that was not recorded whole is flown again before the learner stops',
        lower=0,
    ),
    fixed('record', False, 'record the topics to recording-*.mcap in the results folder'),
)
LEARNER = LEARNING | LEARNER_OPERATION

TABLES = {
    'simulator': SIMULATOR,
    'controller': CONTROLLER,
    'visualizer': VISUALIZER,
    'web': WEB,
    'learner': LEARNER,
    'mavlink_adapter': table(*autopilot_tables.MAVLINK_ADAPTER),
    'mavros_adapter': table(*autopilot_tables.MAVROS_ADAPTER),
    'px4_adapter': table(*autopilot_tables.PX4_ADAPTER),
    'crazyflie_adapter': table(*autopilot_tables.CRAZYFLIE_ADAPTER),
}
