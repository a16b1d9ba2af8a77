"""What everything costs on this machine, measured in one run, as ratios: ``make bench``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import learning_run
import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hmpc_ros.cli.options import MOST_REPETITIONS, count, output_folder, page_file
from hmpc_ros.configuration import build, files, learner
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.learning.objective import Objective
from hmpc_ros.policy.linear.flying import rollout
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.unconstrained import OfflineMpc
from hmpc_ros.policy.linear.weights import Weights
from hmpc_ros.ros.graph import find_config

STEPS = 200
LOCKSTEP_STEPS = 1000
LATENCY_RATES = (50.0, 100.0)  # Hz


@dataclass
class Results:
    """Measured numbers by section and name; rows: of each name, unit, target and meaning."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(
        self, section: str, name: str, value: float, unit: str, meaning: str, target: str = ''
    ) -> None:
        """Keep one number."""
        self.numbers.setdefault(section, {})[name] = float(value)
        self.rows.append((f'{section}.{name}', unit, target, meaning))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Measure speed on this machine, everything in one run. Ratios are what to '
        'compare between machines; run it while nothing else does.'
    )
    parser.add_argument(
        '--out', type=output_folder, default='build', metavar='DIR', help='folder of bench.json'
    )
    parser.add_argument(
        '--only',
        metavar='SECTION',
        nargs='+',
        choices=list(SECTIONS),
        help=f'measure only some of: {", ".join(SECTIONS)}',
    )
    parser.add_argument(
        '--repeat',
        type=count(MOST_REPETITIONS),
        default=7,
        metavar='N',
        help='repetitions, the best counts (default 7)',
    )
    parser.add_argument(
        '--page', type=page_file, default=None, metavar='FILE.md',
        help="write the documentation's page here",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Measure, print the table and write bench.json."""
    arguments = read_arguments()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 150  # a file has no edge to wrap at
    results = Results()
    for name in arguments.only or SECTIONS:
        with _working(console, SECTION_TITLES[name]):
            SECTIONS[name](results, arguments.repeat)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column, justify in (('measured', 'left'), ('value', 'right'), ('target', 'left')):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column('meaning', style='dim')
    document = {
        **results.numbers, 'rows': results.rows, **provenance(), 'repetitions': arguments.repeat,
        'load': os.getloadavg()[1],
    }  # fmt: skip
    for row in rows(document):
        table.add_row(*row)
    console.print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / 'bench.json'
    file.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')
    console.print(f'written to {file}')
    if arguments.page:
        arguments.page.write_text(page(document), encoding='utf-8')
        console.print(f'written to {arguments.page}')


def rows(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, target and meaning of all that was measured."""
    for name, unit, target, meaning in document['rows']:
        section, key = name.split('.', 1)
        value = document[section][key]
        digits = 3 if unit == '' else 2 if abs(value) < 100 else 0
        yield name, f'{value:.{digits}f} {unit}'.strip(), target, meaning


def page(document: dict[str, Any]) -> str:
    """Return the documentation's page, in Markdown."""
    table = '\n'.join(
        f'| `{name}` | {value} | {target} | {meaning.replace("|", "")} |'
        for name, value, target, meaning in rows(document)
    )
    versions = ', '.join(f'{name} {version}' for name, version in document['versions'].items())
    return (
        "# Speed\n\nMade by `make bench ARGS='--page docs/results/speed.md'` "
        f'on {document["machine"]},\n{document["date"]}, commit {document["commit"] or "unknown"}, '
        f'load {document["load"]:.1f} over the last five minutes; the shortest of '
        f'{document["repetitions"]}\nrepetitions where there are any. {versions}.\n\n'
        f'| measured | value | target | meaning |\n|---|---|---|---|\n{table}\n'
    )


# -- the sections ------------------------------------------------------------------------------


class _Reference:
    """The reference experiment with all its parts."""

    def __init__(self) -> None:
        configuration = files.load(find_config('reference'))
        self.controller = configuration['controller']
        self.configuration = configuration
        self.mpc: Mpc = build.mpc(self.controller)
        self.goal = build.goal(self.controller)
        self.vehicle = build.vehicle(configuration['simulator'])
        self.x0 = np.array(configuration['simulator']['initial_state'])
        self.objective: Objective = learner.objective(configuration['learner'], self.mpc.limits)

    def fly(self, mpc: Mpc | OfflineMpc, keep_solutions: bool = True) -> Any:
        return rollout(
            self.vehicle, mpc, self.goal, self.x0, STEPS, 0, keep_solutions=keep_solutions
        )


def measure_solve(results: Results, repeat: int) -> None:
    """Time one solve: acados' own time, and ours on top of it."""
    reference = _Reference()
    flights = [reference.fly(reference.mpc).solutions for _ in range(repeat)]
    acados = [sum(s.acados_time for s in solutions) / STEPS for solutions in flights]
    total = [sum(s.total_time for s in solutions) / STEPS for solutions in flights]
    best = int(np.argmin(total))
    weights = reference.mpc.weights
    add = results.add
    add('solve', 'acados_us', 1e6 * acados[best], 'us', "acados' own time per solve")
    add('solve', 'total_us', 1e6 * total[best], 'us', 'the whole of Mpc.solve')
    ratio = total[best] / acados[best]
    add('solve', 'overhead_ratio', ratio, '', "Mpc.solve over acados' own time", '<= 1.25')
    iterations = np.mean([s.iterations for s in flights[0]])
    add('solve', 'iterations', float(iterations), '', 'interior-point iterations on average')
    change = _best(lambda: reference.mpc.set_weights(weights), repeat, inner=20)
    add('solve', 'new_weights_us', 1e6 * change, 'us', 'changing all weights')


def measure_gradient(results: Results, repeat: int) -> None:
    """Time rollouts and gradients, with and without the offline shortcut."""
    reference = _Reference()
    model = reference.mpc.model
    add = results.add
    plain = OfflineMpc(reference.mpc, shortcut=False)
    short = OfflineMpc(reference.mpc, shortcut=True)
    theta = reference.mpc.weights.theta

    def with_gradient(mpc: OfflineMpc) -> np.ndarray:
        gradient = FlightGradient(mpc, model, reference.objective)
        return gradient(reference.fly(mpc), mpc.parameters)

    # Taken in turns, so that a busy moment of the machine does not hit one of them alone.
    def bare() -> Any:
        return reference.fly(plain)

    def spared() -> Any:
        return reference.fly(short)

    timed = _best_of_each(
        {
            'bare': bare,
            'bare_gradient': lambda: with_gradient(plain),
            'short': spared,
            'short_gradient': lambda: with_gradient(short),
        },
        repeat,
    )
    acados = min(sum(s.acados_time for s in bare().solutions) for _ in range(repeat))
    ms = 1e3
    add('gradient', 'acados_ms', ms * acados, 'ms', "acados' own time in a flight of 200 solves")
    add('gradient', 'rollout_ms', ms * timed['bare'], 'ms', 'rollout, every solve by acados')
    ratio = timed['bare'] / acados
    add('gradient', 'rollout_overhead_ratio', ratio, '', "that over acados' own time", '<= 1.15')
    add(
        'gradient',
        'rollout_and_gradient_ms',
        ms * timed['bare_gradient'],
        'ms',
        'rollout and dJ/dtheta (94 weights)',
    )
    ratio = timed['bare_gradient'] / timed['bare']
    add('gradient', 'ratio', ratio, '', 'rollout and gradient over rollout', '<= 1.35')
    add('gradient', 'shortcut_rollout_ms', ms * timed['short'], 'ms', 'acados only near bounds')
    add(
        'gradient',
        'shortcut_rollout_and_gradient_ms',
        ms * timed['short_gradient'],
        'ms',
        'rollout and gradient with the shortcut',
        '<= 40',
    )
    gradient_alone = timed['bare_gradient'] - timed['bare']

    def finite_differences() -> None:
        for i in range(len(theta)):
            reference.mpc.set_weights(Weights.from_theta(theta + 1e-5 * (np.arange(94) == i)))
            reference.objective.cost(reference.fly(plain, keep_solutions=False))
        reference.mpc.set_weights(Weights.from_theta(theta))

    differences = _best(finite_differences, 1) / gradient_alone
    add('gradient', 'finite_differences_ratio', differences, '', '94 flights over our gradient')
    forward = _acados_forward_time(reference, min(repeat, 3))
    if forward is not None:
        add(
            'gradient',
            'acados_forward_ratio',
            forward / gradient_alone,
            '',
            "acados' forward calls for du_0/dx alone over our whole gradient",
        )


def _acados_forward_time(reference: _Reference, repeat: int) -> float | None:
    """Time acados' own du_0/dx over a flight; None where its solver has no such call."""
    solver = reference.mpc._qp._solver
    if not hasattr(solver, 'eval_param_sens'):
        return None

    def forward(deviation: np.ndarray) -> float:
        reference.mpc.solve_deviation(deviation)
        begun = time.perf_counter()
        for i in range(12):
            solver.eval_param_sens(i, 0, 'ex')
            solver.get(0, 'sens_u')
        return time.perf_counter() - begun

    flight = reference.fly(reference.mpc)
    try:
        return min(sum(forward(x) for x in flight.deviations[:-1]) for _ in range(repeat))
    except Exception:  # the call is gone from newer versions, each in its own way
        return None


def measure_training(results: Results, repeat: int) -> None:
    """Time one iteration of the paper's hybrid rule, offline."""
    overrides = ['learner.rule=paper', 'learner.estimator=hybrid']
    times = [whole for whole, _ in _iteration_times(overrides, 4 * repeat)]
    meaning = 'an iteration of the paper (two flights, gradient, record)'
    results.add('training', 'paper_iteration_ms', float(np.median(times)), 'ms', meaning, '<= 200')


def _iteration_times(overrides: list[str], iterations: int) -> list[tuple[float, float]]:
    """Return how long each iteration of an offline run took, and its flights alone [ms]."""
    from hmpc_ros.learning.results import ResultsFolder
    from hmpc_ros.learning.training import TrainingRun

    configuration = files.load(find_config('reference'), overrides)
    training = learner.offline_training(configuration)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        header = learner.header(configuration, training)
        with ResultsFolder(Path(folder) / 'run', header) as kept:
            training_run = TrainingRun(
                training.rule,
                training.objective,
                training.start,
                kept,
                iterations=iterations,
                seed=0,
            )
            begun, flying = time.perf_counter(), 0.0
            while (request := training_run.next_request()) is not None:
                asked = time.perf_counter()
                flight = training.fly(request)
                flying += time.perf_counter() - asked
                if training_run.report(request, flight) is not None:
                    times.append((1e3 * (time.perf_counter() - begun), 1e3 * flying))
                    begun, flying = time.perf_counter(), 0.0
    return times[:iterations]  # without the closing flight


def measure_parallel(results: Results, repeat: int) -> None:
    """Time iterations with many perturbed flights, on one process and on a pool of two."""
    from hmpc_ros.learning.parallel import workers

    iterations = max(2, repeat // 2)
    overrides = ['rule=paper', 'estimator=zeroth_order', 'directions=8', 'two_sided=true']
    configuration = files.load(
        find_config('reference'),
        [f'learner.{value}' for value in (*overrides, f'iterations={iterations + 1}')],
    )

    def per_iteration(jobs: int) -> float:
        ends = []
        with tempfile.TemporaryDirectory() as folder, workers(jobs) as executor:
            learner.train_offline(
                configuration,
                Path(folder) / 'run',
                on_record=lambda _run, _record: ends.append(time.perf_counter()),
                executor=executor,
            )
        # The workers build their solvers during the first iteration; the last record is no more
        # than the closing flight.
        return (ends[iterations] - ends[0]) / iterations

    alone, shared = per_iteration(1), per_iteration(2)
    add = results.add
    add('parallel', 'serial_ms', 1e3 * alone, 'ms', 'an iteration of 17 flights, one process')
    add('parallel', 'two_workers_ms', 1e3 * shared, 'ms', 'the same on two workers')
    efficiency = alone / shared / 2
    add('parallel', 'efficiency_2', efficiency, '', 'of two workers: 1 is twice as fast')


def measure_lockstep(results: Results, repeat: int) -> None:
    """Time a lockstep flight over ROS between two node processes, and what its time goes into."""
    from nav_msgs.msg import Odometry
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import JointState

    from hmpc_ros.ros import conversions
    from hmpc_ros.ros.graph import simulation
    from hmpc_ros.ros.local_flight import fly

    overrides: dict = {
        'simulator': {
            'real_time_factor': 0.0,
            'start_paused': True,
            'episode_steps': LOCKSTEP_STEPS,
        }
    }
    nodes = simulation('reference', overrides)
    flights = [fly(nodes, LOCKSTEP_STEPS, 0.1) for _ in range(min(repeat, 3))]
    step = min(flight.wall_time for flight in flights) / LOCKSTEP_STEPS
    add = results.add
    add('lockstep', 'steps_per_s', 1 / step, '1/s', 'over ROS, two node processes', '>= 300')
    add('lockstep', 'step_ms', 1e3 * step, 'ms', 'a step: state, solve, command, plant')

    # The same work in this process, message for message, without the middleware between.
    reference = _Reference()
    states = flights[0].record.states[:-1]
    solve = float(np.mean([reference.mpc.solve(x, reference.goal).total_time for x in states]))
    odometry, speeds, state = Odometry(), np.zeros(4), np.zeros(12)
    command = conversions.new_rotor_command()

    def messages() -> None:
        conversions.odometry_from_state(states[0], 1, odometry)
        heard = deserialize_message(serialize_message(odometry), Odometry)
        conversions.state_from_odometry(heard, state)
        conversions.set_rotor_speeds(reference.mpc.model.hover_input, 1, command)
        answer = deserialize_message(serialize_message(command), JointState)
        conversions.rotor_speeds_from_joint_state(answer, speeds)

    converting = _best(messages, repeat, inner=100)
    hover = reference.mpc.model.hover_input
    plant = _best(lambda: reference.vehicle.step(hover), repeat, inner=100)
    add('lockstep', 'solve_share', solve / step, '', 'of a step: Mpc.solve')
    add('lockstep', 'messages_share', converting / step, '', 'converting and serialising, all four')
    add('lockstep', 'plant_share', plant / step, '', 'stepping the vehicle')
    rest = 1 - (solve + converting + plant) / step
    add('lockstep', 'rest_share', rest, '', 'middleware, executor, context switches')


def measure_latency(results: Results, repeat: int) -> None:
    """Time odometry to command between two processes at wall-clock rates."""
    from latency import measure

    from hmpc_ros.ros.graph import simulation

    reference = _Reference()
    states = np.tile(reference.fly(reference.mpc).states[:-1], (max(1, repeat // 3), 1))
    controller = next(node for node in simulation('reference') if node.name == 'controller')
    for rate, times in measure(controller, states, LATENCY_RATES).items():
        section = f'latency_{rate:.0f}hz_ms'
        median, p99 = 1e3 * np.percentile(times, (50, 99))
        target = '< 5' if rate == 50.0 else ''
        meaning = f'odometry to command at {rate:g} Hz'
        results.add(section, 'median', median, 'ms', f'{meaning}, median', target)
        results.add(section, 'p99', p99, 'ms', f'{meaning}, 99 %')
        results.add(section, 'lost', np.isinf(times).sum(), '', 'states without an answer')


def measure_rule(results: Results, repeat: int) -> None:
    """Time what the default rule does between flights, early in a run and late."""
    times = _iteration_times(['learner.rule=trust_region'], 15 * repeat)
    thinking = [whole - flying for whole, flying in times]
    third = len(thinking) // 3
    early, late = (float(np.median(part)) for part in (thinking[:third], thinking[-third:]))
    add = results.add
    meaning = 'an iteration of the default rule without its flights'
    add('rule', 'iteration_ms', float(np.median(thinking)), 'ms', meaning, '<= 60')
    add('rule', 'growth', late / early, '', f'that in the last {third} iterations over the first')


def measure_learning(results: Results, repeat: int) -> None:
    """Time learning over ROS by the paper's rule, and what an iteration goes into."""
    with tempfile.TemporaryDirectory() as folder:
        rule = ('learner.rule=paper',)
        found = learning_run.measure(Path(folder) / 'run', 3 * repeat, overrides=rule)
    add = results.add
    seconds = {part: each['median'] for part, each in found['seconds'].items()}
    total = seconds.pop('total', sum(seconds.values()))
    meaning = 'an iteration over ROS: two flights of 200 steps, gradient, hand-over'
    add('learning', 'iteration_ms', 1e3 * total, 'ms', meaning, '<= 1500')
    for part, value in seconds.items():
        add('learning', f'{part}_share', value / total, '', f'of that: {part}')


def measure_tracking(results: Results, _repeat: int) -> None:
    """Time the tracking MPC over ROS at 100 Hz: in lockstep, and with RotorPy by the clock."""
    from hmpc_ros.configuration import build_tracking
    from hmpc_ros.studies.tracking import fly_over_ros

    def flown(steps: int, *overrides: str) -> tuple[float, dict]:
        configuration = files.load(find_config('tracking'), overrides)
        reference, _ = build_tracking.reference(configuration)
        _, told, wall_time = fly_over_ros(configuration, reference, steps)
        return steps / wall_time, told

    add = results.add
    rate, _ = flown(1700, 'simulator.backend=model')
    add('tracking', 'steps_per_s', rate, '1/s', 'in lockstep, our physics', '>= 400')
    _, told = flown(6000, 'simulator.real_time_factor=1.0', 'controller.reference.duration=57.0')
    about = '60 s at 100 Hz, RotorPy in the other process'
    for name, target in (('median', '<= 4'), ('p99', '<= 8')):
        value = told[f'latency_ms.{name}']
        add('tracking', f'latency_{name}_ms', value, 'ms', f'odometry to command, {about}', target)
    missed = told['missed_deadlines']
    add('tracking', 'missed_deadlines', missed, '', f'answers over 10 ms, {about}', '0')
    add('tracking', 'held_commands', told['held_commands'], '', 'periods without a command', '0')


SECTIONS: dict[str, Callable[[Results, int], None]] = {
    'solve': measure_solve,
    'gradient': measure_gradient,
    'training': measure_training,
    'parallel': measure_parallel,
    'rule': measure_rule,
    'lockstep': measure_lockstep,
    'latency': measure_latency,
    'tracking': measure_tracking,
    'learning': measure_learning,
}
SECTION_TITLES = {
    'solve': 'one solve of the MPC',
    'gradient': 'flights and their gradients',
    'training': "the paper's training iteration",
    'parallel': 'flights on two workers',
    'rule': 'the default rule between flights',
    'lockstep': 'lockstep flights over ROS',
    'latency': 'odometry to command over ROS',
    'tracking': 'the tracking MPC over ROS',
    'learning': 'learning over ROS',
}


# -- timing ------------------------------------------------------------------------------------


def _best(work: Callable[[], Any], repeat: int, inner: int = 1) -> float:
    """Return the shortest time [s] of one call, over repetitions of ``inner`` calls each."""
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        for _ in range(inner):
            work()
        times.append((time.perf_counter() - begun) / inner)
    return min(times)


def _best_of_each(work: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Return the shortest time [s] of each, called in turns."""
    for call in work.values():
        call()
    rounds = [{name: _best(call, 1) for name, call in work.items()} for _ in range(repeat)]
    return {name: min(times[name] for times in rounds) for name in work}


@contextmanager
def _working(console: Console, title: str) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn('measuring: {task.description}'), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(title, total=None)
        yield


if __name__ == '__main__':
    main()
