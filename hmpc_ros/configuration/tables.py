"""Every parameter of every node, by node: name, default, meaning, unit and range.

What becomes a field of a dataclass is declared there, once, and derived here; what only a node
knows is declared here.
"""

import math

from hmpc_ros.configuration import autopilot_tables, tracking_tables
from hmpc_ros.configuration.schema import Parameter, declared, table
from hmpc_ros.learning import trust_region
from hmpc_ros.learning.estimators import ZerothOrder
from hmpc_ros.learning.few_flights import Settings
from hmpc_ros.learning.objective import Objective
from hmpc_ros.learning.safety import Envelope, Safeguard
from hmpc_ros.learning.schedules import StepSize, Trust
from hmpc_ros.plant.quadcopter import INTEGRATORS, NU, NX, TIME_STEP, QuadcopterParameters
from hmpc_ros.plant.vehicle import Imperfections
from hmpc_ros.policy.flight_controller import Safety
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import SLACK_L1, Limits
from hmpc_ros.policy.linear.mpc import HORIZON
from hmpc_ros.policy.linear.weights import N_TERMINAL, N_THETA, SLACK, SPACE

_TIME_STEP = Parameter(
    'time_step', TIME_STEP, 'length of a control step', 's', lower=1e-4, upper=1.0, read_only=True
)

# Largest entry of each block of weights.
_MOST = {name: SPACE.upper[part].max() for name, part in SPACE.parts.items()}

SIMULATOR = table(
    _TIME_STEP,
    Parameter(
        'integrator',
        INTEGRATORS[0],
        'integration of the dynamics; the reference experiment uses euler',
        choices=INTEGRATORS,
        read_only=True,
    ),
    Parameter(
        'substeps', 1, 'integration steps in a control step', lower=1, upper=1000, read_only=True
    ),
    Parameter(
        'real_time_factor',
        1.0,
        'simulated over wall-clock time; 0: lockstep, as fast as the controller answers',
        lower=0.0,
        upper=100.0,
        read_only=True,
    ),
    Parameter('initial_state', [0.0] * NX, 'state at the start of every flight', length=NX),
    Parameter(
        'episode_steps',
        0,
        'steps after a reset at which the simulator holds until the next one; 0: never',
        lower=0,
    ),
    Parameter(
        'next_flight',
        -1,
        'number of the flight that the next reset begins, which selects its noise; '
        '-1: one more than the last',
        lower=-1,
    ),
    Parameter('start_paused', False, 'wait for the first ~/reset before flying', read_only=True),
    *declared(QuadcopterParameters, 'vehicle.', 'simulated vehicle: '),
    *declared(Imperfections, ''),
    Parameter('seed', 0, 'seed of noise and gusts', lower=0, read_only=True),
    Parameter('frame_id', 'map', 'world frame of the odometry (ENU)', read_only=True),
    Parameter('child_frame_id', 'base_link', 'body frame of the odometry (FLU)', read_only=True),
    Parameter(
        'resend_period',
        0.2,
        'in lockstep, wall-clock time after which an unanswered state is sent again',
        's',
        lower=0.01,
        upper=3600.0,
        read_only=True,
    ),
    *tracking_tables.SIMULATOR,
)

CONTROLLER = table(
    Parameter('autostart', True, 'configure and activate the node when it starts', read_only=True),
    _TIME_STEP,
    Parameter(
        'horizon', HORIZON, 'prediction horizon in steps', lower=1, upper=200, read_only=True
    ),
    *tracking_tables.CONTROLLER,
    Parameter(
        'model.source',
        'hover',
        'prediction model: the linearisation of vehicle.* at hover, model.file, or identified from '
        'noisy simulated flights of vehicle.* (model.identification.*)',
        choices=('hover', 'file', 'identified'),
        read_only=True,
    ),
    Parameter('model.file', '', 'linear model (.npz) written by hmpc identify', read_only=True),
    # Models that are wrong on purpose, to see what learning makes of them.
    Parameter(
        'model.input_scale',
        1.0,
        'factor on B, to study a model that is wrong in how strong the inputs are',
        lower=1e-3,
        read_only=True,
    ),
    Parameter(
        'model.error_std',
        0.0,
        'standard deviation of random relative errors of each entry of A - I and B, to study a '
        'model that is wrong everywhere',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'model.seed',
        0,
        'seed of model.error_std and of model.source: identified',
        lower=0,
        read_only=True,
    ),
    Parameter(
        'model.identification.flights', 10, 'flights to identify from', lower=1, read_only=True
    ),
    Parameter('model.identification.steps', 30, 'steps of each', lower=1, read_only=True),
    Parameter(
        'model.identification.noise',
        0.02,
        'standard deviation of the noise on each measured state of these flights',
        lower=0.0,
        read_only=True,
    ),
    *declared(QuadcopterParameters, 'vehicle.', 'vehicle the MPC assumes: '),
    Parameter(
        'policy.q',
        [1.0] * 6 + [math.sqrt(0.1)] * 6,
        f'square roots of the state weights, Q = diag(q^2); at most {_MOST["q"]:g}',
        length=NX,
    ),
    Parameter(
        'policy.r',
        [0.1] * NU,
        f'square roots of the input weights, R = diag(r^2); at most {_MOST["r"]:g}',
        length=NU,
    ),
    Parameter(
        'policy.p',
        [],
        f"lower triangle of L row by row, terminal weight P = L L'; at most {_MOST['p']:g}; "
        'empty: from the Riccati equation of the model, q and r',
        length=N_TERMINAL,
        may_be_empty=True,
    ),
    Parameter(
        'policy.slack',
        [],
        'linear cost of each violated soft bound (velocity, attitude, rates, 3 each), then their '
        f'quadratic cost; empty: {SLACK_L1:g} each',
        lower=1e-3,
        upper=1e4,
        length=SLACK.size,
        may_be_empty=True,
    ),
    Parameter(
        'policy.model',
        [],
        'prediction model that goes with the weights: A, B and c, each row by row; '
        'empty: as model.source says',
        length=NX * (NX + NU + 1),
        may_be_empty=True,
    ),
    Parameter(
        'policy.lease',
        0.0,
        'how long the policy.* of the same request fly unless all are set again; then the '
        'controller goes back to the last weights that were set with 0, which stay',
        's',
        lower=0.0,
        upper=3600.0,
    ),
    Parameter(
        'weights_file',
        '',
        'learned weights (written by hmpc learn) that replace policy.* at the start; '
        'refused when they were learned for another model or horizon',
        read_only=True,
    ),
    *declared(Limits, 'limits.', read_only=False),
    *declared(Goal, 'goal.', read_only=False),
    *declared(Safety, '', read_only=False),
    Parameter('frame_id', 'map', 'world frame the odometry must be given in', read_only=True),
)

VISUALIZER = table(
    Parameter('path_length', 2000, 'poses kept of the flown path', lower=2, upper=1_000_000),
    Parameter(
        'arm_length', QuadcopterParameters.arm_length, 'size of the drawn vehicle', 'm', lower=1e-3
    ),
)

WEB = table(
    Parameter(
        'host',
        '127.0.0.1',
        'address the page listens at; any but one of this machine alone asks visitors for a token',
        read_only=True,
    ),
    Parameter(
        'port', 8080, 'its port; 0: any that is free', lower=0, upper=65535, read_only=True
    ),
    Parameter('learner', 'learner', 'name of the learner that is shown', read_only=True),
    Parameter('adapter', 'mavlink_adapter', "name of the autopilot's adapter", read_only=True),
)

# What decides the numbers of a training run, over ROS or offline.
LEARNING = table(
    Parameter('iterations', 200, 'iterations of the run in total', lower=0),
    Parameter('seed', 0, 'seed of the random directions', lower=0, read_only=True),
    Parameter('steps', 200, 'steps of a flight', lower=1, upper=100_000, read_only=True),
    Parameter(
        'flights',
        0,
        'no iteration begins after so many flights; 0: the iterations decide',
        lower=0,
    ),
    Parameter(
        'rule',
        'few_flights',
        'update rule: learn from few flights by a surrogate of the plant that is refitted from '
        'them (few_flights; trust_region by one trust region and one test), '
        "the paper's projected gradient step, or Adam on the gradient",
        choices=('few_flights', 'trust_region', 'paper', 'adam'),
        read_only=True,
    ),
    Parameter(
        'tasks.goals',
        [],
        'x, y, z [m] and yaw [rad] of the goal of each task, one after the other; the objective is '
        "the mean over the tasks; empty: all to the one goal",
        may_be_empty=True,
        read_only=True,
    ),
    Parameter(
        'tasks.starts',
        [],
        'x, y, z [m] and yaw [rad] where each task starts at rest; empty: all at the one start',
        may_be_empty=True,
        read_only=True,
    ),
    Parameter(
        'tasks.at_once',
        0,
        'tasks that an iteration flies, drawn at random; the others are rehearsed and flown when '
        'weights are verified; 0: all',
        lower=0,
        read_only=True,
    ),
    *declared(Settings, 'few_flights.'),
    *declared(trust_region.Settings, 'trust_region.'),
    Parameter(
        'adam.learning_rate',
        0.02,
        'length of a step of Adam in each weight',
        lower=1e-12,
        read_only=True,
    ),
    Parameter(
        'estimator',
        'hybrid',
        'estimate of the gradient: from the model, from cost differences (zeroth_order), '
        "the paper's mixture of both, or the model's corrected by the flights (control_variate)",
        choices=('model_based', 'zeroth_order', 'hybrid', 'control_variate'),
        read_only=True,
    ),
    Parameter(
        'jacobians',
        'model',
        "plant Jacobians of the model-based gradient: the MPC's model, or the simulated vehicle "
        'itself (perfect knowledge, offline only)',
        choices=('model', 'vehicle'),
        read_only=True,
    ),
    *declared(ZerothOrder, '', directions={'upper': N_THETA}),
    *declared(StepSize, 'step_size.'),
    *declared(Trust, 'trust.'),
    Parameter('box.q', 100.0, 'largest magnitude of a q', lower=1e-6, read_only=True),
    Parameter('box.r', 100.0, 'largest magnitude of an r', lower=1e-6, read_only=True),
    Parameter('box.p', 1000.0, 'largest magnitude of an entry of L', lower=1e-6, read_only=True),
    Parameter(
        'learn_slack',
        False,
        'learn the costs policy.slack of violated soft bounds along with the weights',
        read_only=True,
    ),
    *declared(Objective, 'objective.'),
    Parameter(
        'rollback.enabled',
        False,
        'go back to the last accepted weights after a flight that is not acceptable; '
        "false: the paper's rule, which keeps all",
        read_only=True,
    ),
    *declared(Safeguard, 'rollback.'),
    *declared(Envelope, 'envelope.'),
    Parameter(
        'shortcut',
        True,
        'offline, ask acados only where a bound matters (the result is the same)',
        read_only=True,
    ),
)

# How the learner node goes about its flights. None of it decides what a run comes to: a run may be
# resumed with other values.
LEARNER_OPERATION = table(
    Parameter(
        'vehicle.battery_reserve',
        0.35,
        'hmpc learn --vehicle: charge below which no flight begins before the battery is changed',
        lower=0.0,
        upper=1.0,
        read_only=True,
    ),
    Parameter(
        'vehicle.flight_time',
        0.0,
        'hmpc learn --vehicle: time in control after which the battery is changed; 0: no bound',
        's',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'heldout',
        False,
        'tracking MPC, offline: after learning, fly paths that nothing was learned on under the '
        'first and the best weights, for the summary',
        read_only=True,
    ),
    Parameter('autostart', True, 'begin to learn at once, without ~/start', read_only=True),
    Parameter(
        'results',
        'results/learning',
        'folder of the results; a run that is in it already is gone on with',
        read_only=True,
    ),
    Parameter('controller', 'controller', 'name of the controller node', read_only=True),
    Parameter(
        'simulator', 'simulator', 'name of the simulator node, for reset: service', read_only=True
    ),
    Parameter(
        'reset',
        'service',
        'how the vehicle gets to the start of a flight: by the simulator service ~/reset, or by '
        'flying there under the last accepted weights',
        choices=('service', 'fly'),
        read_only=True,
    ),
    Parameter(
        'start.position',
        [0.0] * 3,
        'where flights start, world frame; for reset: fly',
        'm',
        length=3,
        read_only=True,
    ),
    Parameter('start.yaw', 0.0, 'heading at the start; for reset: fly', 'rad', read_only=True),
    Parameter(
        'goal.position',
        [0.0] * 3,
        "where flights go to, world frame; for reset: fly (otherwise the controller's goal)",
        'm',
        length=3,
        read_only=True,
    ),
    Parameter('goal.yaw', 0.0, 'heading at the goal; for reset: fly', 'rad', read_only=True),
    Parameter(
        'settle.position',
        0.1,
        'distance from the start within which the vehicle has arrived; for reset: fly',
        'm',
        lower=1e-4,
        read_only=True,
    ),
    Parameter(
        'settle.velocity',
        0.05,
        'speed below which it has come to rest; for reset: fly',
        'm/s',
        lower=1e-4,
        read_only=True,
    ),
    Parameter(
        'settle.time',
        1.0,
        'how long (by the stamps) it must stay so before a flight begins; for reset: fly',
        's',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'settle.timeout',
        60.0,
        'wall-clock time to get to the start before the learner complains; for reset: fly',
        's',
        lower=0.1,
        read_only=True,
    ),
    Parameter(
        'lease',
        2.0,
        'wall-clock time after which the controller drops the weights on trial by itself when '
        'nothing is heard of the learner',
        's',
        lower=0.2,
        upper=60.0,
        read_only=True,
    ),
    Parameter(
        'service_timeout',
        2.0,
        'wall-clock time that an answer of another node may take',
        's',
        lower=0.01,
        read_only=True,
    ),
    Parameter(
        'stall_timeout',
        5.0,
        'wall-clock time without a new step after which a flight is given up and flown again',
        's',
        lower=0.1,
        read_only=True,
    ),
    Parameter(
        'max_repeats',
        5,
        'how often a flight that was not recorded whole is flown again before the learner stops',
        lower=0,
        read_only=True,
    ),
    Parameter(
        'record',
        False,
        'record the topics to recording-*.mcap in the results folder',
        read_only=True,
    ),
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
