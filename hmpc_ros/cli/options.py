"""Options that several commands share, and what their values are checked with.

The types are for argparse: what they refuse ends the command with a sentence before it has begun.
A default is given as a text, so that it is checked too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from hmpc_ros.autopilots.takeover import PATIENCE
from hmpc_ros.configuration.files import Configuration, from_values, load
from hmpc_ros.configuration.tracking_tables import ROTOR_SPEEDS
from hmpc_ros.learning.results import HEADER, read_header
from hmpc_ros.ros.graph import find_config

MOST_STEPS = 100_000  # of a flight: all its states are kept in memory
MOST_RUNS = 10_000  # flights, iterations or seeds of one command
MOST_JOBS = 256  # processes at a time
MOST_REPETITIONS = 1000
_NAME = r'[A-Za-z_][A-Za-z0-9_]*'


def count(most: int) -> Callable[[str], int]:
    """Return the argparse type of a whole number from 1 to ``most``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(
                f'must be a whole number from 1 to {most}, got {text!r}'
            )
        return value

    return read


def seeds(text: str) -> list[int]:
    """Read seeds such as ``3``, ``100-109`` or ``1,5,7-9``; an argparse type."""
    found: list[int] = []
    for word in filter(None, text.split(',')):
        match = re.fullmatch(r'(\d{1,9})(?:-(\d{1,9}))?', word)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise argparse.ArgumentTypeError(
                f'{word!r} is neither a seed of up to 9 digits nor a range such as 100-109'
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if len(found) + last - first >= MOST_RUNS:
            raise argparse.ArgumentTypeError(f'{text!r} is more than {MOST_RUNS} seeds')
        found += range(first, last + 1)
    return found


def ros_name(text: str) -> str:
    """Return a node's name, with its namespace or without; an argparse type."""
    if not re.fullmatch(rf'/?{_NAME}(/{_NAME})*', text):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no name of a node: letters, digits and _, no digit first'
        )
    return text


def ros_namespace(text: str) -> str:
    """Return a namespace, empty for the root; an argparse type."""
    return ros_name(text) if text.strip() not in ('', '/') else ''


def address(text: str) -> str:
    """Return an address such as ``tcp://10.0.0.5:8786``, empty for none; an argparse type."""
    if text and not re.fullmatch(r'(\w+://)?\S+:\d{1,5}', text):
        raise argparse.ArgumentTypeError(f'{text!r} is no address such as tcp://10.0.0.5:8786')
    return text


def output_folder(text: str) -> Path:
    """Return a folder that exists or can be made; an argparse type."""
    path = Path(text)
    for place in (path, *path.absolute().parents):
        try:
            place.stat()
        except FileNotFoundError:
            if place.is_symlink():
                raise argparse.ArgumentTypeError(f'{place} is a link to nothing') from None
            continue
        except NotADirectoryError:
            continue
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise argparse.ArgumentTypeError(f'{text!r} cannot be written: {reason}') from error
        if not place.is_dir():
            raise argparse.ArgumentTypeError(f'{place} is no folder')
        if not os.access(place, os.W_OK | os.X_OK):
            raise argparse.ArgumentTypeError(f'the folder {place} may not be written to')
        break
    return path


def output_file(text: str) -> Path:
    """Return a file that exists or can be made; an argparse type."""
    path = Path(text)
    output_folder(str(path.parent))
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise argparse.ArgumentTypeError(f'{text!r} cannot be written: {reason}') from error
    if is_folder or text.endswith('/'):
        raise argparse.ArgumentTypeError(f'{text!r} is a folder; give a file')
    if path.exists() and not os.access(path, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text!r} may not be written to')
    return path


def model_file(text: str) -> Path:
    """Return an ``.npz`` file that exists or can be made; an argparse type."""
    return _file_of(text, '.npz')


def page_file(text: str) -> Path:
    """Return a ``.md`` file that exists or can be made; an argparse type."""
    return _file_of(text, '.md')


def _file_of(text: str, suffix: str) -> Path:
    path = output_file(text)
    if path.suffix != suffix:
        raise argparse.ArgumentTypeError(f'{text!r} must end with {suffix}')
    return path


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--set``."""
    parser.add_argument(
        '--config', metavar='FILE', default='reference',
        help='ROS 2 parameter file, or the name of a preset in config/ (default: reference)',
    )  # fmt: skip
    parser.add_argument(
        '--set', metavar='NODE.PARAM=VALUE', action='append', default=[], dest='overrides',
        help='override a parameter, e.g. controller.goal.position="[1, 2, 3]"; may be repeated',
    )  # fmt: skip


def add_sweep(
    parser: argparse.ArgumentParser, chosen: tuple[int, int], flights: int, out: str
) -> None:
    """Add ``--seeds``, ``--flights``, ``--jobs`` and ``--out`` of many runs.

    Args:
        parser: the command's.
        chosen: first and last seed where none are given.
        flights: of each run where nothing is given.
        out: results folder where none is given.
    """
    first, last = chosen
    parser.add_argument(
        '--seeds', metavar='N', nargs='+', type=seeds, default=[list(range(first, last + 1))],
        help=f'seeds, or ranges of them (default: {first}-{last})',
    )  # fmt: skip
    parser.add_argument(
        '--flights', metavar='N', type=count(MOST_RUNS), default=flights,
        help=f'flights of each run (default: {flights})',
    )  # fmt: skip
    parser.add_argument(
        '--jobs', metavar='N', type=count(MOST_JOBS), default=2,
        help='processes at a time (default: 2)',
    )  # fmt: skip
    parser.add_argument(
        '--out', metavar='DIR', type=output_folder, default=out,
        help=f'results folder (default: {out})',
    )  # fmt: skip


def chosen_seeds(arguments: argparse.Namespace) -> list[int]:
    """Return the seeds of ``--seeds``, each once; raises ValueError where there is none."""
    chosen = sorted({seed for each in arguments.seeds for seed in each})
    if not chosen:
        raise ValueError('--seeds: there is none')
    return chosen


def add_vehicle(parser: argparse.ArgumentParser) -> None:
    """Add ``--vehicle``, ``--url`` and ``--patience``."""
    parser.add_argument(
        '--vehicle', choices=('mavlink', 'px4', 'mavros', 'crazyflie'),
        help='fly a vehicle behind an autopilot instead of a simulated one: engage, fly the '
        'reference, hand back (docs/autopilots.md); --config autopilot where none is given',
    )  # fmt: skip
    parser.add_argument('--url', help='with --vehicle mavlink: where the autopilot is')
    parser.add_argument(
        '--patience', type=float, metavar='S', default=PATIENCE,
        help=f'with --vehicle: time that the pilot has to be in a hover (default: {PATIENCE:g})',
    )  # fmt: skip


def take_url(arguments: argparse.Namespace) -> None:
    """Make ``--url`` an override of the adapter's; raises ValueError where there is none."""
    if arguments.url:
        if arguments.vehicle != 'mavlink':
            raise ValueError('--url is where a MAVLink vehicle is: give --vehicle mavlink with it')
        arguments.overrides.append(f'mavlink_adapter.url={json.dumps(arguments.url)}')


def refuse_to_fly(configuration: Configuration) -> None:
    """Raise ValueError when a vehicle behind an autopilot cannot be flown by the policy."""
    kind = configuration['controller']['policy.kind']
    if kind != 'tracking':
        raise ValueError(
            'an autopilot takes thrust and body rates: controller.policy.kind must be tracking, '
            f'and is {kind}'
        )


def read_configuration(arguments: argparse.Namespace, *more: str) -> tuple[Path, Configuration]:
    """Return the parameter file's path and all values, overrides included, and ``more`` of them.

    Raises:
        FileNotFoundError: there is no such file or preset.
        ValueError: a name or value is refused.
    """
    path = find_config(arguments.config)
    return path, load(path, [*arguments.overrides, *more])


def read_run(arguments: argparse.Namespace, *more: str) -> Configuration:
    """Read what is to be run: from the files and options, or from the folder that is resumed."""
    more += tuple(
        f'learner.{name}={getattr(arguments, name)}'
        for name in ('iterations', 'flights', 'seed')
        if getattr(arguments, name, None) is not None  # not every command has all of them
    )
    if arguments.config is None:
        if arguments.resume and (arguments.out / HEADER).exists():
            kept = read_header(arguments.out)['configuration']
            return from_values(kept, [*arguments.overrides, *more])
        arguments.config = 'reference'
    return read_configuration(arguments, *more)[1]


def reader(verbose: bool) -> Callable[[str, str], None]:
    """Return what is done with each line of output of a node."""

    def show(name: str, line: str) -> None:
        if verbose:
            print(f'[{name}] {line}', file=sys.stderr)

    return show


def recording(arguments: argparse.Namespace) -> Path | None:
    """Return the MCAP file of a flight's topics, when ``--record`` asks for it."""
    return arguments.out / 'flight.mcap' if arguments.record else None


def add_run(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options of a training run, whoever flies it: what, how long, where to."""
    add_configuration(parser)
    parser.set_defaults(config=None)
    parser.add_argument('--iterations', metavar='N', type=int, help='iterations in total')
    parser.add_argument(
        '--flights', metavar='N', type=int, help='no iteration begins after so many flights'
    )
    parser.add_argument('--seed', metavar='N', type=int, help='seed of the random directions')
    parser.add_argument(
        '--out', metavar='DIR', type=output_folder, default=out,
        help=f'results folder (default: {out})',
    )  # fmt: skip
    parser.add_argument(
        '--resume', action='store_true',
        help='go on with the run in the results folder, with its own configuration if no --config '
        'is given; start it if there is none',
    )  # fmt: skip
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='write the summary to a file'
    )


def refuse_to_mix(out: Path, resume: bool) -> None:
    """Raise ValueError when a folder holds a run already that is not to be gone on with."""
    if not resume and (out / HEADER).exists():
        raise ValueError(
            f'{out} holds a training run already: go on with it by --resume, or choose another '
            '--out'
        )


def refuse_to_mismatch(configuration: Configuration) -> None:
    """Raise ValueError when simulator and controller cannot fly together."""
    simulator, controller = configuration['simulator'], configuration['controller']
    if simulator['time_step'] != controller['time_step']:
        raise ValueError(
            f'simulator.time_step is {simulator["time_step"]} s but controller.time_step is '
            f'{controller["time_step"]} s: the MPC would plan for another vehicle'
        )
    tracking = controller['policy.kind'] == 'tracking'
    if tracking == (simulator['backend'] == ROTOR_SPEEDS):
        takes, gives = ('rotor speeds', 'thrust and rates') if tracking else (
            'thrust and rates', 'rotor speeds'
        )  # fmt: skip
        raise ValueError(
            f'simulator.backend {simulator["backend"]} is a vehicle that takes {takes}, but '
            f'controller.policy.kind {controller["policy.kind"]} gives {gives}'
        )
    if simulator['frame_id'] != controller['frame_id']:
        raise ValueError(
            f"simulator.frame_id is '{simulator['frame_id']}' but controller.frame_id is "
            f"'{controller['frame_id']}': the controller would not take the odometry"
        )
