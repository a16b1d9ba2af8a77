"""The sheet that every picture is drawn on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from hmpc_ros.figures.style import MUTED, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (13.2, 8.4)  # inch, of the picture of a flight


@contextlib.contextmanager
def sheet(size: tuple[float, float] = SIZE) -> Iterator[Figure]:
    """Yield an empty figure in our style, width and height in inch; whoever asked writes it."""
    mpl.use('Agg')
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=size)
        try:
            yield figure
        finally:
            plt.close(figure)


@contextlib.contextmanager
def page(path: Path, size: tuple[float, float] = SIZE) -> Iterator[Figure]:
    """Yield a figure in our style, and write it to a file when it is drawn.

    Args:
        path: picture to write; its suffix chooses the format (png, pdf, svg).
        size: width and height [inch].
    """
    with sheet(size) as figure:
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def head(
    figure: Figure,
    title: str,
    subtitle: str,
    *,
    left: float = 0.055,
    heights: tuple[float, float] = (0.958, 0.912),
) -> None:
    """Write the two lines above the panels, at fractions of the figure's width and height."""
    figure.text(left, heights[0], title, fontsize=16, fontweight='bold', va='center')
    figure.text(left, heights[1], subtitle, fontsize=11, color=MUTED, va='center')
