"""Sequences that wait without blocking."""

import pytest

from hmpc_ros.ros.procedure import Patience, Procedure, Signal


def test_a_procedure_goes_on_inside_whoever_lets_a_signal_happen():
    first, second, story = Signal(), Signal(), []

    async def tell():
        story.append(await first)
        story.append(await second)

    ends = []
    Procedure(tell(), ends.append)
    assert story == []
    first.set('one')
    assert story == ['one']
    second.set('two')
    assert story == ['one', 'two']
    assert ends == [None]


def test_a_signal_that_happened_before_is_not_waited_for_and_happens_once():
    signal, got = Signal(), []

    async def tell():
        got.append(await signal)

    signal.set(1)
    signal.set(2)
    signal.fail(ValueError('too late'))
    Procedure(tell(), lambda error: got.append(error))
    assert got == [1, None]


def test_an_error_ends_the_procedure_and_is_handed_on():
    signal, ends = Signal(), []

    async def tell():
        await signal

    Procedure(tell(), ends.append)
    signal.fail(ValueError('no'))
    assert isinstance(ends[0], ValueError)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_patience_ends_only_waits_that_take_too_long():
    clock = Clock()
    patience, signal, story = Patience(clock), Signal(), []

    async def tell():
        try:
            story.append(await patience.wait(signal, 2.0, 'nobody came'))
        except TimeoutError as error:
            story.append(str(error))
        await patience.sleep(1.0)
        story.append('slept')

    Procedure(tell(), story.append)
    clock.now = 1.9
    patience.check()
    patience.renew()
    clock.now = 3.8
    patience.check()
    assert story == []
    clock.now = 4.0
    patience.check()
    assert story == ['nobody came']
    clock.now = 4.9
    patience.check()
    assert story == ['nobody came']
    clock.now = 5.1
    patience.check()
    assert story == ['nobody came', 'slept', None]
    patience.check()  # nothing is waited for


def test_patience_can_be_told_another_time_and_be_interrupted():
    clock = Clock()
    patience, story = Patience(clock), []

    async def tell():
        for _ in range(2):
            try:
                await patience.wait(Signal(), 100.0, 'late')
            except (TimeoutError, RuntimeError) as error:
                story.append(str(error))

    Procedure(tell(), lambda _error: None)
    patience.renew(1.0)
    clock.now = 1.5
    patience.check()
    assert story == ['late']
    patience.interrupt(RuntimeError('enough'))
    assert story == ['late', 'enough']


def test_a_procedure_that_is_closed_cleans_up():
    cleaned = []

    async def tell():
        try:
            await Signal()
        finally:
            cleaned.append(True)

    Procedure(tell(), cleaned.append).close()
    assert cleaned == [True]


@pytest.mark.parametrize('count', [5000])
def test_a_long_story_does_not_deepen_the_stack(count: int):
    waiting, done = [], []

    async def tell():
        for _ in range(count):
            signal = Signal()
            waiting.append(signal)
            await signal

    Procedure(tell(), done.append)
    while not done:
        waiting.pop().set()
