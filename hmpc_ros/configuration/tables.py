"""Every parameter of every node, declared once: name, default, meaning, unit and range."""

import math

from hmpc_ros.configuration import tracking_tables
from hmpc_ros.configuration.schema import Parameter, table
from hmpc_ros.plant.quadcopter import INTEGRATORS, NU, NX, QuadcopterParameters
from hmpc_ros.policy.linear.weights import N_TERMINAL, N_THETA

_VEHICLE = QuadcopterParameters()
_INFINITE_SPEED = 1e5  # rad/s; no rotor turns that fast
# m; the world frame is a plane: 5 km from its origin the Earth has curved 2 m away from it.
_WORLD = 5000.0
_TURNS = 1000.0  # rad; a heading repeats itself
_NO_BOUND = 1e4  # m/s, rad, rad/s; as a bound of the MPC the same as none


def _vehicle(whose: str) -> tuple[Parameter, ...]:
    """Declare the physical constants, of the simulated vehicle or of the one the MPC assumes."""
    v = _VEHICLE
    about = f'{whose}: '
    return (
        Parameter('vehicle.mass', v.mass, about + 'mass', 'kg', lower=1e-3, read_only=True),
        Parameter(
            'vehicle.arm_length',
            v.arm_length,
            about + 'centre to rotor',
            'm',
            lower=1e-3,
            read_only=True,
        ),
        Parameter(
            'vehicle.rotor_inertia',
            v.rotor_inertia,
            about + 'inertia of a rotor about its axis',
            'kg m^2',
            lower=0.0,
            read_only=True,
        ),
        Parameter(
            'vehicle.thrust_coefficient',
            v.thrust_coefficient,
            about + 'thrust of a rotor over its squared speed',
            'N s^2',
            lower=1e-12,
            read_only=True,
        ),
        Parameter(
            'vehicle.drag_torque_coefficient',
            v.drag_torque_coefficient,
            about + 'drag torque of a rotor over its squared speed',
            'N m s^2',
            lower=1e-12,
            read_only=True,
        ),
        Parameter(
            'vehicle.inertia',
            list(v.inertia),
            about + 'principal moments of inertia about x, y, z',
            'kg m^2',
            lower=1e-9,
            length=3,
            read_only=True,
        ),
        Parameter(
            'vehicle.linear_drag',
            list(v.linear_drag),
            about + 'drag force over velocity, world x, y, z',
            'N s/m',
            lower=0.0,
            length=3,
            read_only=True,
        ),
        Parameter(
            'vehicle.gravity', v.gravity, about + 'gravity', 'm/s^2', lower=1e-3, read_only=True
        ),
    )


_TIME_STEP = Parameter(
    'time_step', 0.1, 'length of a control step', 's', lower=1e-4, upper=1.0, read_only=True
)

SIMULATOR = table(
    _TIME_STEP,
    Parameter(
        'integrator',
        'euler',
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
    *_vehicle('simulated vehicle'),
    Parameter(
        'motor_time_constant',
        0.0,
        'first-order lag from commanded to actual rotor speed; 0: none',
        's',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'input_delay_steps',
        0,
        'control steps before a command reaches the motors',
        lower=0,
        upper=20,
        read_only=True,
    ),
    Parameter(
        'wind_force', [0.0] * 3, 'constant wind force, world frame', 'N', length=3, read_only=True
    ),
    Parameter(
        'gust_std',
        0.0,
        'standard deviation of the gust force per axis',
        'N',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'gust_time_constant', 1.0, 'correlation time of gusts', 's', lower=1e-3, read_only=True
    ),
    Parameter(
        'process_noise_std',
        [0.0] * NX,
        'standard deviation of the noise added to each state at every step',
        lower=0.0,
        length=NX,
        read_only=True,
    ),
    Parameter(
        'measurement_noise_std',
        [0.0] * NX,
        'standard deviation of the noise on each measured state',
        lower=0.0,
        length=NX,
        read_only=True,
    ),
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
    Parameter('horizon', 12, 'prediction horizon in steps', lower=1, upper=200, read_only=True),
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
    *_vehicle('vehicle the MPC assumes'),
    Parameter(
        'policy.q',
        [1.0] * 6 + [math.sqrt(0.1)] * 6,
        'square roots of the state weights, Q = diag(q^2)',
        length=NX,
    ),
    Parameter(
        'policy.r', [0.1] * NU, 'square roots of the input weights, R = diag(r^2)', length=NU
    ),
    Parameter(
        'policy.p',
        [],
        "lower triangle of L row by row, terminal weight P = L L'; "
        'empty: from the Riccati equation of the model, q and r',
        length=N_TERMINAL,
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
    Parameter(
        'limits.rotor_min', 0.0, 'lowest rotor speed', 'rad/s', lower=0.0, upper=_INFINITE_SPEED
    ),
    Parameter(
        'limits.rotor_max', 630.0, 'highest rotor speed', 'rad/s', lower=0.0, upper=_INFINITE_SPEED
    ),
    Parameter(
        'limits.velocity',
        [2.0] * 3,
        "soft bound of the velocity along the goal frame's axes",
        'm/s',
        lower=1e-3,
        upper=_NO_BOUND,
        length=3,
    ),
    Parameter(
        'limits.attitude',
        [math.pi / 4] * 3,
        'soft bound of roll, pitch and of yaw from the goal',
        'rad',
        lower=1e-3,
        upper=_NO_BOUND,
        length=3,
    ),
    Parameter(
        'limits.rates',
        [math.pi / 8] * 3,
        'soft bound of the body rates',
        'rad/s',
        lower=1e-3,
        upper=_NO_BOUND,
        length=3,
    ),
    Parameter(
        'limits.position_deviation',
        10.0,
        'distance from the goal that the MPC is shown at most; a goal further away is flown to as '
        'if it lay so far off in its direction. A nimble vehicle, which a jump of the goal flips, '
        'wants it lower',
        'm',
        lower=1e-2,
        upper=100.0,
    ),
    Parameter(
        'goal.position',
        [0.0] * 3,
        'where to hover, world frame',
        'm',
        lower=-_WORLD,
        upper=_WORLD,
        length=3,
    ),
    Parameter('goal.yaw', 0.0, 'heading to hover at', 'rad', lower=-_TURNS, upper=_TURNS),
    Parameter(
        'state_timeout',
        0.5,
        'age of the last odometry (wall clock) beyond which the controller falls back',
        's',
        lower=1e-3,
    ),
    Parameter(
        'max_fallback_steps',
        5,
        'steps the shifted last plan is flown without a solution',
        lower=0,
    ),
    Parameter(
        'max_hover_steps',
        20,
        'steps the hover command is sent after that, before the controller falls silent',
        lower=0,
    ),
    Parameter(
        'max_tilt',
        1.0,
        'roll or pitch beyond which the linear model is not trusted with a solution',
        'rad',
        lower=0.01,
        upper=1.5,
    ),
    Parameter(
        'clock_reset_threshold',
        1.0,
        'a stamp that goes back by more than this is a restarted clock, by less an old message',
        's',
        lower=0.0,
    ),
    Parameter('frame_id', 'map', 'world frame the odometry must be given in', read_only=True),
)

VISUALIZER = table(
    Parameter('path_length', 2000, 'poses kept of the flown path', lower=2, upper=1_000_000),
    Parameter('arm_length', _VEHICLE.arm_length, 'size of the drawn vehicle', 'm', lower=1e-3),
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
        "them, the paper's projected gradient step, or Adam on the gradient",
        choices=('few_flights', 'paper', 'adam'),
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
    Parameter(
        'few_flights.probes',
        3,
        'flights under slightly perturbed weights before the first step',
        lower=0,
        upper=100,
        read_only=True,
    ),
    Parameter(
        'few_flights.probe_size',
        0.05,
        'length of their perturbation of theta',
        lower=1e-9,
        read_only=True,
    ),
    Parameter(
        'few_flights.rehearsals',
        2,
        'rehearsals on the surrogate per iteration at most; they cost computing time, no flights',
        lower=1,
        upper=20,
        read_only=True,
    ),
    Parameter(
        'few_flights.damping',
        0.01,
        "Marquardt damping of the first step, in units of the model's curvature",
        lower=1e-9,
        read_only=True,
    ),
    Parameter(
        'few_flights.refresh',
        True,
        "whether the MPC's prediction model may be learned along with its weights",
        read_only=True,
    ),
    Parameter(
        'few_flights.kick',
        0.3,
        'length of the random change of theta that ends a standstill',
        lower=1e-9,
        read_only=True,
    ),
    Parameter(
        'few_flights.repeats',
        3,
        'flights that verify the best weights where flights are noisy',
        lower=1,
        upper=100,
        read_only=True,
    ),
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
    Parameter('delta', 1e-4, 'length of the perturbation of theta', lower=1e-12, read_only=True),
    Parameter(
        'directions',
        1,
        'orthogonal directions of the zeroth-order estimate per iteration',
        lower=1,
        upper=N_THETA,
        read_only=True,
    ),
    Parameter('two_sided', False, 'perturb each direction both ways', read_only=True),
    Parameter(
        'step_size.scale',
        5e-5,
        'a in alpha_k = a log(k + 2) / (k + 1)^exponent',
        lower=1e-15,
        read_only=True,
    ),
    Parameter('step_size.exponent', 0.75, 'how fast the steps shrink', lower=0.0, read_only=True),
    Parameter(
        'step_size.logarithm', True, 'whether the factor log(k + 2) is there', read_only=True
    ),
    Parameter(
        'trust.initial',
        1.0,
        'eta_0 in eta_k = eta_0 / (k + 1)^exponent, the share of the model-based gradient',
        lower=0.0,
        upper=1.0,
        read_only=True,
    ),
    Parameter(
        'trust.exponent', 0.5, 'gamma, how fast trust in the model fades', lower=0.0, read_only=True
    ),
    Parameter('box.q', 100.0, 'largest magnitude of a q', lower=1e-6, read_only=True),
    Parameter('box.r', 100.0, 'largest magnitude of an r', lower=1e-6, read_only=True),
    Parameter('box.p', 1000.0, 'largest magnitude of an entry of L', lower=1e-6, read_only=True),
    Parameter(
        'objective.state_weights',
        [1.0] * 6 + [0.1] * 6,
        'diagonal of QQ, what a step of the flight costs per squared state',
        lower=0.0,
        length=NX,
        read_only=True,
    ),
    Parameter(
        'objective.input_weights',
        [0.01] * NU,
        'diagonal of RR, what a step of the flight costs per squared input',
        lower=0.0,
        length=NU,
        read_only=True,
    ),
    Parameter(
        'objective.terminal_weights',
        [1.0] * 6 + [1000.0] * 3 + [1.0] * 3,
        'diagonal of PP, what the last state costs',
        lower=0.0,
        length=NX,
        read_only=True,
    ),
    Parameter(
        'objective.penalty',
        300.0,
        'rho, cost per unit of violation of the state bounds limits.* of the controller',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'rollback.enabled',
        False,
        'go back to the last accepted weights after a flight that is not acceptable; '
        "false: the paper's rule, which keeps all",
        read_only=True,
    ),
    Parameter(
        'rollback.margin',
        0.05,
        'share of the best objective by which an acceptable one may exceed it',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'rollback.violation',
        1e9,
        'largest violation V that is acceptable',
        lower=0.0,
        read_only=True,
    ),
    Parameter(
        'rollback.shrink',
        0.5,
        'factor on the step size after a rollback',
        lower=0.01,
        upper=1.0,
        read_only=True,
    ),
    Parameter(
        'envelope.position',
        100.0,
        'distance from the goal along any axis beyond which a flight is cut short',
        'm',
        lower=1e-3,
        read_only=True,
    ),
    Parameter(
        'envelope.attitude',
        1.5,
        'roll or pitch beyond which a flight is cut short',
        'rad',
        lower=1e-3,
        read_only=True,
    ),
    Parameter(
        'envelope.violation',
        1e9,
        'violation V of the state bounds beyond which a flight is cut short',
        lower=1e-6,
        read_only=True,
    ),
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
    'learner': LEARNER,
}
