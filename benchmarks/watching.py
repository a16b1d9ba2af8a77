"""What the live page costs a flight: steps per second in lockstep, with it and without, in turns.

And the time of a processor that the page itself takes, which says something on a busy machine too.

    python benchmarks/watching.py --flights 10

Nothing else may run on the machine meanwhile. The page is open, in no browser: what a browser costs
is its own business, and may be another machine's.
"""

from __future__ import annotations

import argparse
import os
import statistics
from contextlib import ExitStack
from pathlib import Path

from hmpc_ros.configuration.files import load
from hmpc_ros.ros.command_interface import ROTORS
from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.local_flight import open_flights
from hmpc_ros.ros.runner import LocalRunner, reserve_domain

STEPS = 2000
PAGE = NodeSpec('web', 'hmpc_ros.ros.web_node', 'web', parameters={'port': 0})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--flights', type=int, default=10, help='of each kind (default: 10)')
    arguments = parser.parse_args()
    number, lock = reserve_domain()
    os.environ['ROS_DOMAIN_ID'] = str(number)
    step = float(load(None)['simulator']['time_step'])
    given = {'simulator': {'start_paused': True, 'episode_steps': STEPS, 'real_time_factor': 0.0}}
    rates: dict[bool, list[float]] = {False: [], True: []}
    taken: list[float] = []
    with lock, open_flights(simulation('reference', given), interface=ROTORS) as flights:
        flights.fly(STEPS, step)
        for _ in range(arguments.flights):
            for watched in (False, True):
                with ExitStack() as stack:
                    if watched:
                        page = stack.enter_context(LocalRunner([PAGE]))
                        flights.spin_until(
                            lambda page=page: any('http://' in line for line in page.output('web')),
                            60.0,
                        )
                    flights.fly(STEPS, step)  # until they have found each other
                    before = _processor_time(page.pid('web')) if watched else 0.0
                    rates[watched].append(STEPS / flights.fly(STEPS, step).wall_time)
                    if watched:
                        taken.append(_processor_time(page.pid('web')) - before)
    without, with_page = (statistics.median(rates[key]) for key in (False, True))
    print(
        f'{without:.0f} steps/s without, {with_page:.0f} with the page '
        f'({100 * (with_page / without - 1):+.1f} %), medians of {arguments.flights} flights of '
        f'{STEPS} steps; the page took {statistics.median(taken):.3f} s of a processor for each; '
        f'load {os.getloadavg()[0]:.1f}'
    )
    return 0


def _processor_time(pid: int) -> float:
    """Return what a process has taken so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


if __name__ == '__main__':
    raise SystemExit(main())
