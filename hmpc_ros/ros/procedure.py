"""Sequences that wait for ROS without blocking it: coroutines that a node's callbacks drive.

What a learner does is a story (set the weights, reset, record, differentiate, ...), and is written
as one: as ``async`` functions that ``await`` signals. A callback (an answer, a message, a timer)
lets a signal happen, and the story goes on inside that callback until it awaits the next signal.

rclpy's own futures can be awaited too, but not every distribution's executor then sleeps while
nothing happens, and they know no timeouts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar('T')


class Signal(Generic[T]):
    """Something that happens once; what comes after the first time is ignored."""

    def __init__(self) -> None:
        self.happened = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._then: Callable[[], None] | None = None

    def set(self, value: T | None = None) -> None:
        """Let it happen; whoever awaits it goes on before this returns."""
        self._happen(value, None)

    def fail(self, error: BaseException) -> None:
        """Let whoever awaits it go on with an error."""
        self._happen(None, error)

    def _happen(self, value: T | None, error: BaseException | None) -> None:
        if self.happened:
            return
        self.happened, self._value, self._error = True, value, error
        if self._then is not None:
            self._then()

    def then(self, callback: Callable[[], None]) -> None:
        """Have a function called when it happens."""
        self._then = callback

    def __await__(self) -> Generator[Signal[T], None, T]:
        """Wait for it and return its value."""
        if not self.happened:
            yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Procedure:
    """Runs a coroutine, from one signal that it awaits to the next.

    Args:
        coroutine: awaits nothing but `Signal`; its first stretch runs at once.
        on_end: is called with the error that it ended by, or None. It must not raise one itself:
            the events executor of rclpy 9 does not survive that.
    """

    def __init__(
        self,
        coroutine: Coroutine[Signal[Any], None, None],
        on_end: Callable[[BaseException | None], None] = lambda _error: None,
    ) -> None:
        self._coroutine = coroutine
        self._on_end = on_end
        self._go_on()

    def _go_on(self) -> None:
        try:
            signal = self._coroutine.send(None)
        except StopIteration:
            self._on_end(None)
        except Exception as error:
            self._on_end(error)
        else:
            signal.then(self._go_on)

    def close(self) -> None:
        """Give up; the coroutine's ``finally`` clauses still run."""
        self._coroutine.close()


class Patience:
    """Ends waits that take too long. One procedure waits for one thing at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._signal: Signal | None = None
        self._seconds = 0.0
        self._ends = 0.0
        self._what = ''

    async def wait(self, signal: Signal[T], seconds: float, what: str) -> T:
        """Await a signal for at most some seconds since now, or since the last `renew`.

        Raises:
            TimeoutError: it did not happen; the message is ``what``.
        """
        self._signal, self._seconds, self._what = signal, seconds, what
        self.renew()
        try:
            return await signal
        finally:
            self._signal = None

    async def sleep(self, seconds: float) -> None:
        """Let some time pass."""
        with contextlib.suppress(TimeoutError):
            await self.wait(Signal(), seconds, '')

    def renew(self, seconds: float | None = None) -> None:
        """Begin the present wait's time anew, with other ``seconds`` if given."""
        if seconds is not None:
            self._seconds = seconds
        self._ends = self._clock() + self._seconds

    def interrupt(self, error: BaseException) -> None:
        """End the present wait with an error."""
        if self._signal is not None:
            self._signal.fail(error)

    def check(self) -> None:
        """End the present wait if its time is over; to be called from a timer."""
        if self._signal is not None and self._clock() > self._ends:
            self._signal.fail(TimeoutError(self._what))
