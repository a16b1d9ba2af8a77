"""``hmpc plot``: draw a training run or an experiment from its results folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from hmpc_ros.figures.learning import draw_training
from hmpc_ros.learning.results import HEADER
from hmpc_ros.studies.reproduce import draw_experiment

DESCRIPTION = """\
Draw what a results folder holds.

The folder of a training run (hmpc train, hmpc learn): cost and violation over the iterations. The
folder of hmpc reproduce: the paper's two figures and the table, from all runs that are finished.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('folder', metavar='DIR', type=Path, help='results folder')


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print what was written."""
    folder: Path = arguments.folder
    if (folder / HEADER).exists():
        print(f'picture: {draw_training(folder)}')
    else:
        print(draw_experiment(folder))
    return 0
