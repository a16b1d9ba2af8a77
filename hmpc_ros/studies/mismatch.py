"""How wrong may the model be? Every rule against mismatch that grows, in several directions.

The work is cut into pieces: a rule that learns (`learn`), or what is measured of one level
(`measure`). Each is a function of its own values alone, takes seconds, and comes to one line of
JSON. A study that was interrupted has the lines of all finished pieces, and makes the others.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hmpc_ros import disk
from hmpc_ros.configuration.files import Configuration, from_values
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.tables import CONTROLLER, LEARNING, SIMULATOR
from hmpc_ros.learning.parallel import workers
from hmpc_ros.studies import benchmark
from hmpc_ros.studies.benchmark import Contestant
from hmpc_ros.studies.mismatch_pieces import learn, measure
from hmpc_ros.studies.mismatch_tracking import learn_tracking, measure_tracking
from hmpc_ros.studies.reproduce import ARMS
from hmpc_ros.studies.tracking_benchmark import REGION

if TYPE_CHECKING:
    from rich.console import Console

LINES = 'study.jsonl'
MOST_BYTES = 1_000_000_000
# Of a study's lines: another number, and what was made before is made again.
VERSION = 1
NOMINAL = 'nominal'
Line = dict[str, Any]


# -- directions and levels -------------------------------------------------------------------------


@dataclass(frozen=True)
class Direction:
    """A way in which model and vehicle differ.

    Attributes:
        label: For figures and tables.
        unit: Of the value, as it is shown behind the number.
        top: Value where lambda is 1: nothing flies there any more, or nothing is left to gain.
        overrides: Maps the configuration and a value to parameters.
        whole: Whether values are whole numbers.
        random: Whether the seed makes another mismatch of it.
        percent: Whether values are shown in percent.
        policy: Kind of MPC that it is for.
    """

    label: str
    unit: str
    top: float
    overrides: Callable[[Configuration, float], dict[str, Any]]
    whole: bool = False
    random: bool = False
    percent: bool = False
    policy: str = 'qp'

    def values(self, levels: int) -> list[float]:
        """Return the values of so many levels from 0 on, nearer to each other where models are."""
        found = [self.top * (i / (levels - 1)) ** 2 for i in range(levels)]
        return [float(v) for v in range(round(self.top) + 1)] if self.whole else found

    def shown(self, value: float) -> str:
        """Return a value for people."""
        number = 100 * value if self.percent else value
        return f'{number:.3g}{self.unit}'


def _scaled(node: str, name: str) -> Callable[[Configuration, float], dict[str, Any]]:
    def overrides(configuration: Configuration, value: float) -> dict[str, Any]:
        known = configuration[node][f'vehicle.{name}']
        return {f'{node}.vehicle.{name}': [(1 + value) * each for each in known]}

    return overrides


# The vehicle differs where a model has nothing to be wrong in (lag, delay) or would have another
# trim (mass), and where that is what makes it hard to fly (inertia). Else the model does, so that
# vehicle and task, and with them the best J there is, are the same at every level.
DIRECTIONS: dict[str, Direction] = {
    'mass': Direction(
        'Vehicle lighter than believed', ' %', 0.2,
        lambda c, v: {'simulator.vehicle.mass': (1 - v) * c['simulator']['vehicle.mass']},
        percent=True,
    ),
    'inertia': Direction(
        'More inertia than believed', ' %', 4.0, _scaled('simulator', 'inertia'), percent=True
    ),
    'drag': Direction(
        'Model with too much drag', ' %', 5.0, _scaled('controller', 'linear_drag'), percent=True
    ),
    'gain': Direction(
        'Inputs stronger than believed', ' %', 5.0,
        lambda _, v: {'controller.model.input_scale': 1 / (1 + v)}, percent=True,
    ),
    'delay': Direction(
        'Input delay (steps)', '', 2.0,
        lambda _, v: {'simulator.input_delay_steps': round(v)}, whole=True,
    ),
    'lag': Direction(
        'Motor lag', ' s', 0.4, lambda _, v: {'simulator.motor_time_constant': v}
    ),
    'errors': Direction(
        'Random errors of A and B', ' %', 0.8,
        lambda _, v: {'controller.model.error_std': v}, random=True, percent=True,
    ),
    # Along a path it is always the vehicle that differs: the nominal one's numbers are the model.
    'path_mass': Direction(
        'Vehicle heavier than believed', ' %', 0.6,
        lambda _, v: {'simulator.mass_scale': 1 + v}, percent=True, policy='tracking',
    ),
    'path_drag': Direction(
        'More drag than believed', ' %', 9.0,
        lambda _, v: {'simulator.drag_scale': 1 + v}, percent=True, policy='tracking',
    ),
    'path_gain': Direction(
        'Less thrust than believed', ' %', 0.35,
        lambda _, v: {'simulator.thrust_scale': 1 - v}, percent=True, policy='tracking',
    ),
    'path_delay': Direction(
        'Commands late', ' s', 0.08, lambda _, v: {'simulator.delay': v}, policy='tracking'
    ),
}  # fmt: skip


def directions_of(policy: str) -> list[str]:
    """Return the names of the directions for a kind of MPC."""
    return [name for name, direction in DIRECTIONS.items() if direction.policy == policy]


def _arm(name: str, label: str, **more: Any) -> Contestant:
    return Contestant(label, ARMS[name].colour, {'rule': 'paper', **ARMS[name].overrides}, **more)


RULES: dict[str, Contestant] = {
    'model_only': _arm('model_only', 'model only', random=False),
    'model_free': _arm('model_free', 'zeroth order only'),
    'hybrid_025': _arm('hybrid_025', 'hybrid γ = 0.25'),
    'hybrid_050': _arm('hybrid_050', 'hybrid γ = 0.5'),
    'hybrid_075': _arm('hybrid_075', 'hybrid γ = 0.75'),
    'adam': benchmark.RULES['adam'],
    'trust_region': benchmark.RULES['trust_region'],
}


@dataclass(frozen=True)
class Piece:
    """What a worker is given: a rule that learns at a level, or what is measured of one.

    Attributes:
        direction: Of `DIRECTIONS`, or `NOMINAL`, where nothing is wrong but linearity.
        value: Of the mismatch.
        share: lambda, the value's place on the way to the direction's top, 0 ... 1.
        rule: Of `RULES`; empty: the level is measured.
        seed: Of the rule, and of the mismatch where that is random.
        flights: Of the run.
        nodes: Values of all parameters.
    """

    direction: str
    value: float
    share: float
    rule: str
    seed: int
    flights: int
    nodes: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """For people."""
        what = self.rule or 'measured'
        return f'{self.direction} {self.value:.3g} {what} seed {self.seed}'

    @property
    def identity(self) -> str:
        """Tell this piece from one with other values of what decides its numbers."""
        # What has its default is left out: a parameter that is new to the package makes no other.
        kept = {
            f'{node}.{name}': value
            for node, names in (
                ('simulator', SIMULATOR), ('controller', CONTROLLER), ('learner', LEARNING)
            )
            for name in names
            if (value := self.nodes[node][name]) != names[name].default
        }  # fmt: skip
        what = [VERSION, self.rule, self.seed, self.flights if self.rule else 0, kept]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """What a study is made of.

    Attributes:
        configuration: Vehicle and task without mismatch.
        directions, rules: Of `DIRECTIONS` and `RULES`; no directions: all for the MPC.
        levels: How many, the one without mismatch among them.
        seeds: Of each.
        flights: Of each run.
    """

    configuration: Configuration
    directions: Sequence[str] = ()
    rules: Sequence[str] = tuple(RULES)
    levels: int = 8
    seeds: Sequence[int] = tuple(range(10))
    flights: int = 60

    def __post_init__(self) -> None:
        every = directions_of(self.policy)
        object.__setattr__(self, 'directions', tuple(self.directions or every))
        for kind, names, known in (
            ('direction', self.directions, every), ('rule', self.rules, list(RULES))
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"there is no {kind} '{name}' for policy.kind {self.policy}; there are "
                        f'{", ".join(known)}'
                    )
        if self.levels < 2:
            raise ValueError(f'--levels {self.levels}: one has no mismatch, so 2 are the fewest')

    @property
    def policy(self) -> str:
        """Kind of MPC that learns."""
        return str(self.configuration['controller']['policy.kind'])

    @property
    def command(self) -> str:
        """The command that makes this study, without values of the configuration."""
        words = ['--config tracking'] if self.policy == 'tracking' else []
        words += [f'--levels {self.levels} --seeds {",".join(map(str, self.seeds))}']
        words += [f'--flights {self.flights}']
        for name, chosen, known in (
            ('directions', self.directions, directions_of(self.policy)),
            ('rules', self.rules, RULES),
        ):
            if list(chosen) != list(known):
                words.append(f'--{name} {" ".join(chosen)}')
        return f'hmpc study mismatch {" ".join(words)}'

    def pieces(self) -> list[Piece]:
        """Return all pieces, seed by seed, so that what is there after a while is comparable.

        Where nothing is random one piece stands for all seeds, with the first one's number.
        """
        places = [(NOMINAL, 0.0, 0.0)]
        for name in self.directions:
            direction = DIRECTIONS[name]
            values = direction.values(self.levels)[1:]
            places += [(name, value, math.sqrt(value / direction.top)) for value in values]
        return [
            self._piece(*place, rule, seed)
            for i, seed in enumerate(self.seeds)
            for place in places
            for rule in ('', *self.rules)
            if i == 0 or self.random(place[0], rule)
        ]

    @staticmethod
    def random(direction: str, rule: str) -> bool:
        """Return whether the seed matters."""
        drawn = direction != NOMINAL and DIRECTIONS[direction].random
        return drawn or bool(rule and RULES[rule].random)

    def _piece(
        self, direction: str, value: float, share: float, rule: str, seed: int
    ) -> Piece:
        wrong = direction != NOMINAL
        values = {
            'simulator.real_time_factor': 0.0,
            'simulator.seed': seed,
            'controller.model.seed': seed,
            'learner.seed': seed,
            **(DIRECTIONS[direction].overrides(self.configuration, value) if wrong else {}),
            **{f'learner.{n}': v for n, v in (RULES[rule].overrides if rule else {}).items()},
        }
        if self.policy == 'tracking':
            values['learner.envelope.position'] = REGION
            if rule:
                values |= dict.fromkeys(('learner.flights', 'learner.iterations'), self.flights)
        words = [f'{name}={json.dumps(value)}' for name, value in values.items()]
        nodes = from_values(self.configuration.nodes, words).nodes
        return Piece(direction, value, share, rule, seed, self.flights, nodes)


# -- the work --------------------------------------------------------------------------------------


def work(piece: Piece) -> Line:
    """Make a piece's line; the same one again for the same piece, but for its ``seconds``."""
    about = {
        'kind': 'run' if piece.rule else 'level',
        'identity': piece.identity,
        'direction': piece.direction,
        'value': piece.value,
        'share': piece.share,
        'rule': piece.rule,
        'seed': piece.seed,
    }
    configuration = from_values(piece.nodes)
    tracking = configuration['controller']['policy.kind'] == 'tracking'
    if piece.rule:
        made = (learn_tracking if tracking else learn)(configuration, piece.flights)
    else:
        made = (measure_tracking if tracking else measure)(configuration)
    return {**about, **made}


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a study; a last one that was not finished is left out.

    Raises:
        ValueError: a line is damaged, or the file cannot be read.
    """
    try:
        text = disk.read_text(path, MOST_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {disk.reason(error)}') from error
    try:
        return [json.loads(line) for line in text.split('\n')[:-1]]
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is damaged ({error}): move it away to begin anew') from error


def run_study(
    plan: Plan, out: Path, *, jobs: int = 2, dask: str = '', console: Console
) -> tuple[list[Line], int]:
    """Make the pieces of a study that are missing in its folder.

    Args:
        plan: What the study is made of.
        out: Results folder; lines of other plans in it are kept too.
        jobs: Processes at a time.
        dask: Address of a Dask scheduler, whose workers are used instead.
        console: Where progress is shown.

    Returns:
        The lines of the plan, and how many of its pieces are there, more than that only if
        interrupted by an exception.

    Raises:
        ValueError: the file of the lines is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / LINES
    known = {line['identity']: line for line in read_lines(path) if 'identity' in line}
    _drop_unfinished(path)
    pieces = plan.pieces()
    missing = [piece for piece in pieces if piece.identity not in known]
    if missing:
        with path.open('a', encoding='utf-8') as stream, workers(jobs, dask) as executor:
            _append(stream, {'kind': 'session', **provenance()})
            _work_off(missing, len(pieces), executor, lambda line: _append(stream, line), console)
    return lines_of(plan, out)


def lines_of(plan: Plan, out: Path) -> tuple[list[Line], int]:
    """Return the finished lines of a plan, and how many pieces it has in all."""
    pieces = plan.pieces()
    wanted = {piece.identity for piece in pieces}
    found = {line['identity']: line for line in read_lines(out / LINES) if 'identity' in line}
    return [line for identity, line in found.items() if identity in wanted], len(pieces)


def sessions(out: Path) -> list[Line]:
    """Return where the lines of a folder were made: versions, machine and date of each time."""
    return [line for line in read_lines(out / LINES) if line['kind'] == 'session']


def _work_off(
    pieces: Iterable[Piece],
    total: int,
    executor: Executor | None,
    keep: Callable[[Line], None],
    console: Console,
) -> None:
    pieces = list(pieces)
    progress = Progress(
        TextColumn('pieces'), MofNCompleteColumn(), BarColumn(bar_width=None),
        TextColumn('{task.description}'), TimeRemainingColumn(), console=console,
    )  # fmt: skip
    with progress:
        bar = progress.add_task('', total=total, completed=total - len(pieces))

        def done(piece: Piece, line: Line) -> None:
            keep(line)
            progress.update(bar, advance=1, description=piece.name)

        if executor is None:
            for piece in pieces:
                done(piece, work(piece))
            return
        under_way: dict[Future[Line], Piece] = {executor.submit(work, p): p for p in pieces}
        try:
            while under_way:
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    done(under_way.pop(future), future.result())
        finally:
            for future in under_way:
                future.cancel()


def _append(stream: Any, line: Line) -> None:
    stream.write(json.dumps(line) + '\n')
    stream.flush()
    os.fsync(stream.fileno())


def _drop_unfinished(path: Path) -> None:
    """Cut off what a killed study had begun to write."""
    if path.exists():
        content = disk.read(path, MOST_BYTES)
        if not content.endswith(b'\n'):
            os.truncate(path, content.rfind(b'\n') + 1)
