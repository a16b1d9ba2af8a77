"""``hmpc reproduce``: the paper's experiment, all arms over several seeds, figures and table."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from hmpc_ros.cli.options import (
    MOST_JOBS,
    MOST_RUNS,
    add_configuration,
    count,
    output_folder,
    read_configuration,
)
from hmpc_ros.studies.reproduce import ARMS, reproduce

DESCRIPTION = """\
Reproduce the paper's experiment: identify a model from closed-loop flights near the target, train
the MPC's weights with every arm and seed, and draw the paper's figures and table.

What is finished is kept: after Ctrl-C or a crash the same command goes on where it was.
"""
EXAMPLES = """\
examples:
  hmpc reproduce --seeds 10 --jobs 2
  hmpc reproduce --seeds 2 --iterations 50 --arms perfect hybrid_050 --out build/quick
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_configuration(parser)
    parser.add_argument(
        '--seeds', metavar='N', type=count(MOST_RUNS), default=10, help='seeds (default: 10)'
    )
    parser.add_argument(
        '--jobs', metavar='N', type=count(MOST_JOBS), default=2,
        help='processes at a time (default: 2)',
    )  # fmt: skip
    parser.add_argument(
        '--iterations', metavar='N', type=count(MOST_RUNS), default=200,
        help='iterations of each run (200)',
    )  # fmt: skip
    parser.add_argument(
        '--arms', metavar='ARM', nargs='+', choices=list(ARMS), default=list(ARMS),
        help=f'which arms (default: all): {", ".join(ARMS)}',
    )  # fmt: skip
    parser.add_argument(
        '--out', metavar='DIR', type=output_folder, default='build/reproduce',
        help='results folder (default: build/reproduce)',
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, then draw and print; 130 after Ctrl-C."""
    console = Console(stderr=True, highlight=False)
    _, configuration = read_configuration(arguments)
    out: Path = arguments.out.absolute()
    try:
        text = reproduce(
            configuration,
            out,
            arms=arguments.arms,
            seeds=arguments.seeds,
            iterations=arguments.iterations,
            jobs=arguments.jobs,
            console=console,
        )
    except KeyboardInterrupt:
        console.print(f'stopped; what is done is kept in {out}: the same command goes on')
        return 130
    print(text)
    return 0
