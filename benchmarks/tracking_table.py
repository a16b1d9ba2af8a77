"""Fly the cases that the tracking MPC is held to, offline, and write what it reaches as a table.

    python benchmarks/tracking_table.py --page docs/results/tracking.md

Takes three minutes; `docs/results/tracking.md` is what it wrote.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmpc_ros.cli import main as command
from hmpc_ros.configuration.provenance import made_by, provenance
from hmpc_ros.disk import write

WIND = {'wind.kind': 'constant', 'wind.mean': [0.0, 3.0, 0.0]}
GALE = {'wind.kind': 'constant', 'wind.mean': [0.0, 8.0, 0.0]}
HEAVY = {'mass_scale': 1.2}
NOISE = {
    'position_noise_std': 0.01,
    'velocity_noise_std': 0.02,
    'attitude_noise_std': 0.0087,
    'rates_noise_std': 0.05,
}
CIRCLE = {'reference.kind': 'circle', 'reference.size': [1.5], 'reference.rate': 4 / 3}
STEP = {'reference.kind': 'step'}
HOVER = {'reference.kind': 'hover', 'tracking.rmse_after': 3.0}
RMSE = 'tracking.rmse_m'


HEAD = '''\
# Along paths

`python benchmarks/tracking_table.py --page docs/results/tracking.md` flies these cases offline with
the physics of {backend}, and wrote this page. Default weights, observer on, and a controller that
knows the nominal vehicle only; errors are those of the true position in m, times in s. *SE3* is
RotorPy's own controller with the true state and stock gains.

| vehicle | case | figure | SE3 | reached | to reach | reached? |
|---|---|---|---|---|---|---|
'''


@dataclass(frozen=True)
class Case:
    """A flight, what is read of it, and what it is held to (None: only told)."""

    vehicle: str
    words: str
    simulator: dict[str, Any]
    controller: dict[str, Any]
    reach: dict[str, float | None]
    se3: float | None = None  # RMSE of RotorPy's SE3 controller [m]


def cases() -> Iterator[Case]:
    eights = {
        'crazyflie': ((0.358, 0.06), (0.376, 0.07), (0.475, 0.06)),
        'px4_sih': ((0.517, 0.014), (0.503, 0.018), (1.07, 0.014)),
        'hummingbird': ((0.084, 0.06), (0.292, 0.08), (0.213, 0.06)),
    }
    truths = (('', {}), (', wind 3 m/s', WIND), (', mass +20 %', HEAVY))
    for vehicle, figures in eights.items():
        for (words, truth), (se3, reach) in zip(truths, figures, strict=True):
            yield Case(vehicle, 'eight' + words, truth, {}, {RMSE: reach}, se3)
    settled = {'settle_5cm_s': 1.5, 'settle_2cm_s': 1.8, 'overshoot': 0.05}
    yield Case('hummingbird', 'step of 2 m', {}, STEP, settled)
    for vehicle in eights:
        reach = {'tracking.max_m': 0.02}
        yield Case(vehicle, 'hover, mass +20 %, after 3 s', HEAVY, HOVER, reach)
        yield Case(vehicle, 'circle 1.5 m at 2 m/s', {}, CIRCLE, {RMSE: 0.03})
        yield Case(vehicle, 'eight, sensor noise', NOISE, {}, {RMSE: None})
        for delay in (0.01, 0.03):
            words = f'eight, command {1000 * delay:.0f} ms late'
            yield Case(vehicle, words, {'delay': delay}, {}, {RMSE: None})
    yield Case('hummingbird', 'hover, wind 8 m/s', GALE, HOVER, {RMSE: None})
    yield Case('hummingbird', 'eight, wind 8 m/s', GALE, {}, {RMSE: None})


def fly(case: Case, backend: str) -> dict[str, Any]:
    """Fly a case as a user does; return its JSON."""
    values = {'simulator.backend': backend, 'simulator.preset': case.vehicle}
    values |= {f'simulator.{name}': value for name, value in case.simulator.items()}
    values |= {f'controller.{name}': value for name, value in case.controller.items()}
    with tempfile.TemporaryDirectory() as folder:
        words = ['fly', '--offline', '--config', 'tracking', '--out', folder]
        for name, value in values.items():
            words += ['--set', f'{name}={value}']
        command.main(words)
        found: dict[str, Any] = json.loads((Path(folder) / 'flight.json').read_text())
    return found


def row(case: Case, result: dict[str, Any]) -> tuple[str, bool]:
    """Return a case's line of the table, and whether all was reached."""
    told, wanted, reached = [], [], True
    for name, most in case.reach.items():
        value = result[name]
        told.append('never' if value is None else f'{value:.3f}')
        if most is not None:
            wanted.append(f'{most:g}')
            reached &= value is not None and value <= most
    unflown = '' if result['failures'] == 0 else f'; {result["failures"]} failed solves'
    names = ', '.join(name.removeprefix('tracking.') for name in case.reach)
    se3 = '' if case.se3 is None else f'{case.se3:g}'
    verdict = 'told' if not wanted else 'yes' if reached else 'no'
    line = (
        f'| {case.vehicle} | {case.words} | {names} | {se3} | {" / ".join(told)}{unflown} '
        f'| {" / ".join(wanted)} | {verdict} |'
    )
    return line, reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--page', type=Path, default=Path('build/tracking.md'))
    parser.add_argument('--backend', default='rotorpy', help='physics; default: %(default)s')
    parser.add_argument('--only', default='', help='cases whose vehicle or words contain this')
    arguments = parser.parse_args()
    lines = []
    for case in cases():
        if arguments.only not in f'{case.vehicle} {case.words}':
            continue
        result = fly(case, arguments.backend)
        lines.append(row(case, result)[0])
        print(lines[-1], flush=True)
    head = HEAD.format(backend=arguments.backend)
    write(arguments.page, head + '\n'.join(lines) + '\n\n' + made_by(provenance()))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
