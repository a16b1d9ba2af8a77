"""``hmpc benchmark``: every rule on every case over several seeds; summary, table and figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hmpc_ros.cli.options import MOST_JOBS, MOST_RUNS, count, output_folder, seeds
from hmpc_ros.studies.benchmark import (
    RULES,
    cases_named,
    default_cases,
    entries_of,
    fly_all,
    rules_named,
    summarise,
    table,
    write,
)

DESCRIPTION = """\
Let every rule learn on every case of model mismatch, with the same number of flights, and compare
what comes of it: the objective J of the best weights that a rule has flown so far.

Cases are the parameter files in config/cases, or files of your own. What is finished is kept: after
Ctrl-C or a crash the same command goes on where it was.
"""
EXAMPLES = """\
examples:
  hmpc benchmark --jobs 2 --out build/benchmark
  hmpc benchmark --rules few_flights adam --cases a n1 --seeds 100,101 --flights 20
  hmpc benchmark --cases heldout --out build/heldout
  hmpc benchmark --cases my_vehicle.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--rules', metavar='RULE', nargs='+', default=list(RULES),
        help=f'which rules (default: all): {", ".join(RULES)}',
    )  # fmt: skip
    parser.add_argument(
        '--cases', metavar='CASE', nargs='+', default=[],
        help='which cases, by name or file; heldout: those that nothing was tuned on '
        f'(default: {", ".join(default_cases())})',
    )  # fmt: skip
    parser.add_argument(
        '--seeds', metavar='N', nargs='+', type=seeds, default=[list(range(100, 110))],
        help='seeds, or ranges of them (default: 100-109)',
    )  # fmt: skip
    parser.add_argument(
        '--flights', metavar='N', type=count(MOST_RUNS), default=100,
        help='flights of each run (default: 100)',
    )  # fmt: skip
    parser.add_argument(
        '--jobs', metavar='N', type=count(MOST_JOBS), default=2,
        help='processes at a time (default: 2)',
    )  # fmt: skip
    parser.add_argument(
        '--out',
        metavar='DIR',
        type=output_folder,
        default='build/benchmark',
        help='results folder (default: build/benchmark)',
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, then summarise; 130 after Ctrl-C, 1 when a run could not be flown."""
    console = Console(stderr=True, highlight=False)
    rules = rules_named(_split(arguments.rules))
    chosen = sorted({seed for each in arguments.seeds for seed in each})
    if not chosen:
        raise ValueError('--seeds: there is none')
    cases = cases_named(_split(arguments.cases))
    out: Path = arguments.out.absolute()
    entries = entries_of(cases, rules, chosen, arguments.flights, out)
    code = 0
    try:
        if not fly_all(entries, arguments.jobs, console):
            code = 1
    except KeyboardInterrupt:
        console.print(f'stopped; what is done is kept in {out}: the same command goes on')
        code = 130
    summary = summarise(cases, entries, chosen, arguments.flights)
    if not summary['cases']:
        console.print('no run is finished yet')
        return code
    for path in write(summary, out):
        console.print(f'wrote {path}')
    print(table(summary))
    return code


def _split(words: Sequence[str]) -> list[str]:
    """Take lists with commas, with spaces or both."""
    found = [part for word in words for part in word.split(',') if part]
    return list(dict.fromkeys(found))
