"""``hmpc study``: questions that take thousands of flights to answer."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from hmpc_ros.cli.options import (
    MOST_RUNS,
    add_configuration,
    add_sweep,
    address,
    chosen_seeds,
    count,
    page_file,
    read_configuration,
)
from hmpc_ros.studies.mismatch import DIRECTIONS, LINES, RULES, Plan, lines_of, run_study
from hmpc_ros.studies.mismatch_page import write
from hmpc_ros.studies.mismatch_summary import rules_table, summarise, title

DESCRIPTION = """\
mismatch: how wrong may the model be? Every rule learns at every level of a mismatch that grows, in
several directions, until nothing flies; what is wrong is measured at every level. Raw data (one
line of JSON per piece of work), table, figure and a page that tells what came of it.

What is finished is kept: after Ctrl-C or a crash the same command goes on where it was.
"""
EXAMPLES = """\
examples:
  hmpc study mismatch --jobs 2 --out build/study
  hmpc study mismatch --levels 5 --seeds 0-2 --flights 40
  hmpc study mismatch --directions lag delay --rules model_free hybrid_050 trust_region
  hmpc study mismatch --config tracking --levels 5 --flights 20 --out build/study_tracking
  hmpc study mismatch --dask tcp://10.0.0.5:8786
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('question', choices=['mismatch'], help='which study')
    add_configuration(parser)
    parser.add_argument(
        '--directions', metavar='NAME', nargs='+', choices=list(DIRECTIONS),
        default=[], help=f'which (default: all for the MPC): {", ".join(DIRECTIONS)}',
    )  # fmt: skip
    parser.add_argument(
        '--rules', metavar='RULE', nargs='+', choices=list(RULES), default=list(RULES),
        help=f'which rules (default: all): {", ".join(RULES)}',
    )  # fmt: skip
    parser.add_argument(
        '--levels', metavar='N', type=count(MOST_RUNS), default=8,
        help='levels of each direction, the one without mismatch among them (default: 8)',
    )  # fmt: skip
    add_sweep(parser, (0, 9), 60, 'build/study')
    parser.add_argument(
        '--dask', metavar='ADDRESS', type=address, default='',
        help='scheduler of a Dask cluster that works instead, e.g. tcp://10.0.0.5:8786',
    )  # fmt: skip
    parser.add_argument(
        '--page', metavar='FILE.md', type=page_file,
        help='write the page here as well, with its figure beside it',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Make what is missing, then tell what came of it; 130 after Ctrl-C."""
    console = Console(stderr=True, highlight=False)
    plan = Plan(
        read_configuration(arguments)[1],
        arguments.directions,
        arguments.rules,
        arguments.levels,
        chosen_seeds(arguments),
        arguments.flights,
    )
    out: Path = arguments.out.absolute()
    code = 0
    try:
        run_study(plan, out, jobs=arguments.jobs, dask=arguments.dask, console=console)
    except KeyboardInterrupt:
        console.print(f'stopped; what is done is kept in {out}: the same command goes on')
        code = 130
    lines, total = lines_of(plan, out)
    console.print(f'{len(lines)} of {total} pieces are in {out / LINES}')
    summary = summarise(plan, lines)
    if not summary['levels']:
        console.print('at no level all rules are finished yet')
        return code
    for path in write(summary, out, arguments.page):
        console.print(f'wrote {path}')
    print(rules_table(summary))
    print(title(summary))
    return code
