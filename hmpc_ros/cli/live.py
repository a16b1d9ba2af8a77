"""The learner's progress in a terminal: numbers and a small curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.ros.progress import Progress

CURVE_WIDTH, CURVE_HEIGHT = 64, 7  # characters, of 2 x 4 dots each

_STYLES = {
    'waiting': 'yellow', 'learning': 'green', 'paused': 'cyan', 'done': 'bold green',
    'stopped': 'bold red',
}  # fmt: skip

# Bits of a braille character's dots, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def view(progress: Progress, history: NDArray[np.float64]) -> RenderableType:
    """Draw a learner's progress.

    Args:
        progress: its last report.
        history: (iterations, 5): k, C, V, J, accepted.
    """
    p = progress
    numbers = Table.grid(padding=(0, 2))
    for _ in range(6):
        numbers.add_column()
    numbers.add_row(
        _pair('C', f'{p.C:.6g}'),
        _pair('V', f'{p.V:.4f}'),
        _pair('J', f'{p.J:.6g}'),
        _pair('best J', f'{p.best:.6g}', 'bold'),
        _pair('trust', f'{p.trust:.3f}'),
        _pair('step', f'{p.step_size:.1e}'),
    )
    numbers.add_row(
        _pair('accepted', str(p.iteration - p.rolled_back), 'green'),
        _pair('rolled back', str(p.rolled_back), 'red' if p.rolled_back else ''),
        _pair('unsafe', str(p.unsafe_flights), 'red' if p.unsafe_flights else ''),
        _pair('repeated', str(p.repeats), 'yellow' if p.repeats else ''),
        _pair('iteration', f'{p.seconds:.2f} s'),
        _pair('time left', duration(p.time_left)),
    )
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(no_wrap=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_row(
        Text(p.state, style=_STYLES.get(p.state, '')),
        ProgressBar(total=max(1, p.iterations), completed=p.iteration),
        Text(f'iteration {p.iteration} of {p.iterations}'),
    )
    parts: list[RenderableType] = [bar, numbers]
    if len(history) > 1:
        parts.append(_curve(history))
    what = f'{p.flight} flight' if p.state == 'learning' and p.flight else p.message
    parts.append(Text(what, style='dim'))
    if p.reason:
        parts.append(Text(f'last event: {p.reason}', style='yellow'))
    return Group(*parts)


def _pair(name: str, value: str, style: str = '') -> Text:
    return Text.assemble((f'{name} ', 'dim'), (value.replace('nan', '-'), style))


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if not math.isfinite(seconds):
        return '-'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours} h {minutes:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def _curve(history: NDArray[np.float64]) -> Table:
    values = np.where(np.isfinite(history[:, 3]), history[:, 3], np.nan)
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify='right', style='dim')
    grid.add_column()
    low, high = np.nanmin(values), np.nanmax(values)
    lines = braille(values.tolist(), CURVE_WIDTH, CURVE_HEIGHT)
    labels = {0: f'{high:.5g}', len(lines) - 1: f'J {low:.5g}'}
    for row, line in enumerate(lines):
        grid.add_row(labels.get(row, ''), Text(line, style='cyan'))
    return grid


def braille(values: Sequence[float], width: int, height: int) -> list[str]:
    """Draw a curve with braille dots, all of it in ``width`` times ``height`` characters.

    Values that are not finite leave a gap.
    """
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [''] * height
    low, high = min(finite), max(finite)
    scale = (rows - 1) / (high - low) if high > low else 0.0
    steps = max(1, len(values) - 1)
    for column in range(columns):
        position = column * steps / (columns - 1)
        left = min(int(position), len(values) - 1)
        right = min(left + 1, len(values) - 1)
        value = values[left] + (position - left) * (values[right] - values[left])
        if math.isfinite(value):
            row = rows - 1 - round((value - low) * scale)
            cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return [''.join(chr(0x2800 + cell) for cell in line) for line in cells]
