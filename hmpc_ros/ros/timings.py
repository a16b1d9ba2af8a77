"""Where the time of each iteration of a learning run went, kept beside its results."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

FILE = 'timings.jsonl'

Timing = dict[str, float]


@dataclass
class Stopwatch:
    """Where the time of an iteration went [s]."""

    flight: float = 0.0  #: from the answer to the reset to the last message of the flight
    parameters: float = 0.0  #: until the controller had answered about its parameters
    reset: float = 0.0  #: until the vehicle was at the start

    def total(self) -> float:
        """Return the sum."""
        return self.flight + self.parameters + self.reset

    def restart(self) -> None:
        """Begin at nothing."""
        self.flight = self.parameters = self.reset = 0.0


def append_timing(folder: Path | str, timing: Timing) -> None:
    """Add an iteration: its number ``k`` and durations [s]. Nothing depends on that this works."""
    with contextlib.suppress(OSError), (Path(folder) / FILE).open('a', encoding='utf-8') as file:
        file.write(json.dumps(timing) + '\n')


def read_timings(folder: Path | str) -> list[Timing]:
    """Return what was added, without lines that are damaged; empty when there is nothing.

    ``total`` is the sum of ``flight`` (from the answer to the reset to the last message),
    ``gradient`` (costing and differentiating), ``parameters`` (the controller's answers), ``reset``
    (the simulator's answer, or the flight to the start) and ``waiting`` (all else).
    """
    timings = []
    with contextlib.suppress(OSError):
        for line in (Path(folder) / FILE).read_text(encoding='utf-8').splitlines():
            with contextlib.suppress(ValueError):
                timings.append(json.loads(line))
    return timings
