"""``hmpc benchmark``: every rule on every case over several seeds; summary, table and figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from hmpc_ros.cli.options import add_sweep, chosen_seeds, output_file
from hmpc_ros.studies import benchmark, tracking_benchmark

DESCRIPTION = """\
Let every rule learn on every case of model mismatch, with the same number of flights, and compare
what comes of it: the objective J of the best weights that a rule has flown so far.

Cases are the parameter files in config/cases, or files of your own. What is finished is kept: after
Ctrl-C or a crash the same command goes on where it was.

--cases tracking is for the tracking MPC: beside the rules, CMA-ES and Bayesian optimisation from
PyPI tune it, and RotorPy's own controller flies with tuned gains (pip install 'hmpc_ros[compare]').
"""
EXAMPLES = """\
examples:
  hmpc benchmark --jobs 2 --out build/benchmark
  hmpc benchmark --rules trust_region adam --cases a n1 --seeds 100,101 --flights 20
  hmpc benchmark --cases heldout --out build/heldout
  hmpc benchmark --cases my_vehicle.yaml
  hmpc benchmark --cases tracking --flights 21 --out build/tracking
  hmpc benchmark --cases heavy --rules cma se3 --flights 100 --seeds 100-102 --out build/tracking
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--rules', metavar='RULE', nargs='+', default=[],
        help=f'which rules (default: all): {", ".join(benchmark.RULES)}; for tracking: '
        f'{", ".join(tracking_benchmark.RULES)}',
    )  # fmt: skip
    parser.add_argument(
        '--cases', metavar='CASE', nargs='+', default=[],
        help='which cases, by name or file; heldout: those that nothing was tuned on '
        f'(default: {", ".join(benchmark.default_cases())}); tracking: all of '
        f'{", ".join(tracking_benchmark.CASES)}',
    )  # fmt: skip
    add_sweep(parser, (100, 109), 100, 'build/benchmark')
    parser.add_argument(
        '--page', metavar='FILE', type=output_file, default=None,
        help='write a page of results here too (Markdown, a picture beside it)',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, then summarise; 130 after Ctrl-C, 1 when a run could not be flown."""
    console = Console(stderr=True, highlight=False)
    chosen = chosen_seeds(arguments)
    names, out = _split(arguments.cases), arguments.out.absolute()
    kinds = {tracking_benchmark.is_tracking(name) for name in names}
    if len(kinds) > 1:
        raise ValueError('--cases: those of the tracking MPC are flown by themselves')
    study: Any = tracking_benchmark if kinds == {True} else benchmark  # the same functions
    rules = study.rules_named(_split(arguments.rules) or list(study.RULES))
    cases = study.cases_named(names)
    entries = study.entries_of(cases, rules, chosen, arguments.flights, out)
    code = 0
    try:
        if not study.fly_all(entries, arguments.jobs, console):
            code = 1
    except KeyboardInterrupt:
        console.print(f'stopped; what is done is kept in {out}: the same command goes on')
        code = 130
    summary = study.summarise(cases, entries, chosen, arguments.flights)
    if not summary['cases']:
        console.print('no run is finished yet')
        return code
    for path in study.write(summary, out, arguments.page):
        console.print(f'wrote {path}')
    print(study.table(summary))
    return code


def _split(words: Sequence[str]) -> list[str]:
    """Take lists with commas, with spaces or both."""
    found = [part for word in words for part in word.split(',') if part]
    return list(dict.fromkeys(found))
