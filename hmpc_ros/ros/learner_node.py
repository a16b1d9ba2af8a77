"""Node ``learner``: asks for flights, hands the controller better weights, and keeps the results.

What is learned is decided by `hmpc_ros.learning.training.TrainingRun`, and how a flight is flown by
`hmpc_ros.ros.flyer.RosFlyer`. This node brings the two together: it starts and stops, repeats what
was not flown whole, hands over what was accepted, and tells about it. It sees topics and parameters
only, never the vehicle; that it vanishes at any moment must do no harm.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger

from hmpc_ros.configuration import learner, tracking_learner
from hmpc_ros.configuration.tables import LEARNER
from hmpc_ros.configuration.weights_file import BEST_WEIGHTS_FILE, origin
from hmpc_ros.learning.requests import FlightRequest
from hmpc_ros.learning.results import Record, ResultsError, number, recorded
from hmpc_ros.learning.summary import best_record
from hmpc_ros.learning.training import TrainingRun, open_run
from hmpc_ros.ros.flight_topics import flight_topics
from hmpc_ros.ros.flyer import NotFlownError, OutOfReachError, RosFlyer
from hmpc_ros.ros.parameter_client import NoAnswerError, RefusedError
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.procedure import Patience, Procedure, Signal
from hmpc_ros.ros.progress import (
    COLUMNS,
    DONE,
    DRAWN,
    LEARNING,
    PAUSED,
    STOPPED,
    WAITING,
    Progress,
    history_message,
    policy_message,
    progress_from_message,
    status_from_progress,
)
from hmpc_ros.ros.qos import LATCHED, RELIABLE
from hmpc_ros.ros.recording import Recording, RecordingError, Topic
from hmpc_ros.ros.spinning import run, tell_start
from hmpc_ros.ros.timings import append_timing

TICK = 0.05  # s
HEARTBEAT = 1.0  # s, of wall-clock time between two messages on ~/progress at most
LISTEN = 0.5  # s, to hear of another learner before the first flight
SAY_AGAIN = 5.0  # s, before the same sentence is logged again

WEIGHTS_FILE = 'weights.yaml'

OWN = (
    Topic('~/policy', Float64MultiArray, latched=True),
    Topic('~/progress', DiagnosticArray, latched=True),
    *(Topic(f'~/progress/{name}', Float64) for name in DRAWN),
)

# Parameters of the controller, as `RosFlyer.policy` returns them.
Policy = Mapping[str, Any]

# What learns for a ``policy.kind`` of the controller.
_TRAININGS: Mapping[str, Callable[..., Any]] = {
    'qp': learner.vehicle_training,
    'tracking': tracking_learner.vehicle_training,
}


class CannotGoOnError(RuntimeError):
    """Learning ends here; the message tells the user why."""


class Learner(Node):
    """Runs a training run with flights over ROS."""

    def __init__(self) -> None:
        """Declare the parameters, and begin when ``autostart`` says so."""
        super().__init__('learner', start_parameter_services=False)
        settings = NodeParameters(self, LEARNER, learner.check, lambda _nothing: None)
        self._settings = settings
        self._policy_publisher = self.create_publisher(Float64MultiArray, '~/policy', LATCHED)
        self._progress_publisher = self.create_publisher(DiagnosticArray, '~/progress', LATCHED)
        self._history_publisher = self.create_publisher(Float64MultiArray, '~/history', LATCHED)
        self._identified_publisher = self.create_publisher(JointState, '~/identified', LATCHED)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, '/diagnostics', RELIABLE
        )
        self._drawn = {
            name: self.create_publisher(Float64, f'~/progress/{name}', RELIABLE) for name in DRAWN
        }
        # Where all learners of one controller hear each other, whatever their names are.
        meeting = f'{settings["controller"]}/learner'
        self._meeting_publisher = self.create_publisher(DiagnosticArray, meeting, LATCHED)
        self.create_subscription(DiagnosticArray, meeting, self._on_learner, LATCHED)
        self.create_service(Trigger, '~/start', self._on_start)
        self.create_service(Trigger, '~/stop', self._on_stop)

        self._identity = f'{time.time_ns():020d} {socket.gethostname()} {os.getpid()}'
        self._progress = Progress(
            learner=self._identity,
            iterations=settings['iterations'],
            results=str(Path(settings['results']).absolute()),
        )
        self._other = ''
        self._said: dict[str, float] = {}
        self._published = 0.0
        self._stop_wanted = not settings['autostart']
        self._start: Signal[None] = Signal()
        self._patience = Patience()
        self._flyer = RosFlyer(self, settings.values, self._patience, self._wait_for)
        self.create_timer(TICK, self._on_tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._best_written: Record | None = None
        self._recording: Recording | None = None
        tell_start(
            self,
            f'learns by the rule {settings["rule"]} at {settings["controller"]}; results in '
            f'{self._progress.results}',
            ('odom', 'rotor_command'),
        )
        self._procedure = Procedure(self._live())

    # -- callbacks -----------------------------------------------------------------------------

    def _on_tick(self) -> None:
        self._patience.check()
        self._flyer.tick()
        if time.monotonic() - self._published > HEARTBEAT:
            self._publish()

    def _on_start(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = 'learning goes on'
        total = self._settings['iterations']
        if self._progress.state == DONE and self._progress.iteration >= total:
            response.success = False
            response.message = (
                f'the run is finished: all of its {total} iterations are flown; to go on, set the '
                'parameter iterations to more of them first'
            )
            return response
        if self._progress.state in (WAITING, LEARNING) and not self._stop_wanted:
            response.message = f'already {self._progress.state}'
        self._stop_wanted = False
        start, self._start = self._start, Signal()
        start.set()
        return response

    def _on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        if self._progress.state in (WAITING, LEARNING):
            self._stop_wanted = True
            response.message = 'stops after this flight; the best weights go to the controller'
        else:
            response.message = f'already {self._progress.state}'
        return response

    def _on_learner(self, message: DiagnosticArray) -> None:
        """Hear of other learners: of two, the one that started later gives way."""
        with contextlib.suppress(ValueError):
            other = progress_from_message(message)
            if other.learner < self._identity and other.state in (WAITING, LEARNING):
                self._other = other.learner
                if self._progress.state in (WAITING, LEARNING):
                    self._patience.interrupt(self._gives_way())

    def _gives_way(self) -> CannotGoOnError:
        _, host, pid = self._other.split()
        return CannotGoOnError(
            f'another learner is at work (process {pid} on {host}) and was first: stop that one, '
            'or give this one a namespace with a vehicle of its own'
        )

    # -- the story -----------------------------------------------------------------------------

    async def _live(self) -> None:
        """Learn whenever that is wanted, until the process ends."""
        while True:
            if self._stop_wanted:
                self._tell(PAUSED, 'waiting for ~/start')
                await self._start
            self._other = ''
            try:
                await self._learn()
            except (CannotGoOnError, ResultsError, ValueError, ImportError, OSError) as error:
                self._stop_for(str(error))
            except Exception as error:
                # Not left to the executor: an error in a callback that rclpy runs as a task ends
                # the events executor of Kilted, and the process, by a segmentation fault.
                self.get_logger().error(traceback.format_exc())
                self._stop_for(f'a mistake in the program: {type(error).__name__}: {error}')
            await self._start

    async def _learn(self) -> None:
        """Start the run, or go on with it, and fly it to its end."""
        self._tell(WAITING, 'for controller and vehicle')
        values = await self._flyer.connect()
        await self._listen_for_others()
        nodes = {'controller': values, 'learner': self._settings.values}
        simulator = await self._flyer.ask_simulator()
        if simulator is not None:
            nodes['simulator'] = simulator
        with contextlib.ExitStack() as resources:
            training = _TRAININGS[values['policy.kind']](
                nodes, Path(self._settings['results']), resources
            )
            self._training = training
            self._flyer.envelope = training.envelope
            training_run = resources.enter_context(
                open_run(
                    self._settings['results'], training.header, training.rule, training.objective,
                    training.start, iterations=self._settings['iterations'],
                    flights=self._settings['flights'],
                )
            )  # fmt: skip
            results = training_run.results
            accepted = [r for r in results.iterations if r['accepted']]
            self._accepted = self._policy_of(accepted[-1] if accepted else results.header)
            self._recall(training_run)
            self._record()
            await self._hand_over(self._accepted)
            await self._fly_all(training_run)
            await self._finish(training_run)

    async def _listen_for_others(self) -> None:
        """Give another learner time to be heard before anything is changed."""
        for _ in range(round(LISTEN / TICK)):
            if self._other:
                raise self._gives_way()
            await self._patience.sleep(TICK)

    async def _fly_all(self, training_run: TrainingRun) -> None:
        repeats, gradient, begun = 0, 0.0, time.monotonic()
        self._flyer.stopwatch.restart()
        while (request := training_run.next_request()) is not None:
            if self._stop_wanted:
                await self._pause(training_run)
                begun = time.monotonic()
            self._announce(training_run, request)
            try:
                flight = await self._flyer.fly(request)
            except NotFlownError as error:
                training_run.repeat(request)
                self._progress.repeats += 1
                self._warn(f'the {request.purpose} flight {request.number} is repeated: {error}')
                if isinstance(error, OutOfReachError):
                    await self._reconnect()
                else:
                    repeats += 1
                    if repeats > self._settings['max_repeats']:
                        raise CannotGoOnError(
                            f'a flight could not be flown whole {repeats} times in a row: {error}'
                        ) from error
                continue
            if self._other:
                raise self._gives_way()
            repeats = 0
            if flight.ended:
                self._warn(
                    f'the {request.purpose} flight {request.number} is unsafe: {flight.ended}'
                )
            began = time.monotonic()
            flight = self._training.understood(request, flight)
            record = await self._report(training_run, request, flight)
            gradient += time.monotonic() - began
            if record is not None:
                await self._keep(training_run, record)
                self._note_times(record, time.monotonic() - begun, gradient)
                gradient, begun = 0.0, time.monotonic()
                self._flyer.stopwatch.restart()

    async def _report(
        self, training_run: TrainingRun, request: FlightRequest, flight: Any
    ) -> Record | None:
        """Report a flight; where that takes long, this node stays there for others meanwhile."""
        if not self._training.thinks_long:
            return training_run.report(request, flight)
        with ThreadPoolExecutor(1) as thread:
            record = thread.submit(training_run.report, request, flight)
            while not record.done():
                await self._patience.sleep(TICK)
        return record.result()

    async def _keep(self, training_run: TrainingRun, record: Record) -> None:
        """Hand over what an iteration accepted, and tell."""
        records = training_run.results.records
        cost = f'J = {number(record["J"]):.6g}'
        if record['kind'] == 'closing':
            self.get_logger().info(f'the closing flight: {cost}')
        elif record['accepted']:
            self.get_logger().info(f'iteration {record["k"]} is accepted: {cost}')
        else:
            # As the rule means it to be; a flight that went wrong has had its own warning.
            self.get_logger().info(
                f'iteration {record["k"]} is rolled back: {record["reason"]} ({cost})'
            )
        if record.get('accepted', True):
            self._accepted = self._policy_of(record)
            self._write_weights(WEIGHTS_FILE, record)
            await self._hand_over(self._accepted)
        # A rule may think better of what it had thought best.
        best = best_record(records)
        if best is not None and best is not self._best_written:
            self._write_weights(BEST_WEIGHTS_FILE, best)
            self._best_written = best
        for note in record.get('notes', ()):
            self._warn(note)
        self._recall(training_run)
        for name, publisher in self._drawn.items():
            publisher.publish(Float64(data=float(getattr(self._progress, name))))
        self._publish()

    async def _hand_over(self, policy: Policy) -> None:
        """Make weights the controller's own, and publish them."""
        while True:
            try:
                await self._flyer.weights.accept(policy)
                break
            except RefusedError as error:
                raise CannotGoOnError(
                    f'the controller refused accepted weights: {error}'
                ) from error
            except NoAnswerError as error:
                self._warn(str(error))
                await self._reconnect()
        self._policy_publisher.publish(policy_message(policy))

    async def _reconnect(self) -> None:
        """Wait for controller and vehicle, and see that they still are what was learned with."""
        self._tell(WAITING, 'for controller and vehicle')
        while True:
            values = await self._flyer.connect()
            self._training.refuse_another_controller(values)
            try:
                await self._flyer.weights.restore()
                return
            except NoAnswerError as error:
                self._wait_for(str(error))
            except RefusedError as error:
                raise CannotGoOnError(
                    f'the controller refused accepted weights: {error}'
                ) from error

    async def _pause(self, training_run: TrainingRun) -> None:
        await self._hand_over(self._best(training_run))
        self._tell(PAUSED, 'stopped by ~/stop; the best weights fly')
        await self._start
        await self._reconnect()
        await self._hand_over(self._accepted)

    async def _finish(self, training_run: TrainingRun) -> None:
        await self._hand_over(self._best(training_run))
        self._recall(training_run)
        if training_run.stopped:
            raise CannotGoOnError(f'the run diverged: {training_run.stopped}')
        self._tell(DONE, f'{training_run.k} iterations; the best weights fly')
        self.get_logger().info(
            f'{self._progress.message}: best J = {self._progress.best:.6g}, last J = '
            f'{self._progress.J:.6g}; results in {self._progress.results}'
        )

    def _best(self, training_run: TrainingRun) -> Policy:
        best = best_record(training_run.results.records)
        return self._accepted if best is None else self._policy_of(best)

    def _policy_of(self, record: Record) -> Policy:
        """Return the controller's parameters for the policy of a record."""
        return self._flyer.policy(recorded(self._training.start, record))

    def _stop_for(self, reason: str) -> None:
        """Say why learning stops, and leave the vehicle under the accepted weights."""
        self.get_logger().error(f'learning stops: {reason}')
        self._flyer.weights.restore_at_once()
        self._tell(STOPPED, reason)

    # -- telling -------------------------------------------------------------------------------

    def _announce(self, training_run: TrainingRun, request: FlightRequest) -> None:
        self._progress.flight = f'{request.purpose} {request.number}'
        self._tell(LEARNING, f'iteration {training_run.k} of {training_run.total}')

    def _recall(self, training_run: TrainingRun) -> None:
        """Put what the records say into the progress."""
        progress, records = self._progress, training_run.results.records
        done = training_run.results.iterations
        progress.iteration, progress.iterations = training_run.k, training_run.total
        if not records:
            return
        last, best = records[-1], best_record(records)
        progress.C, progress.V, progress.J = (number(last[name]) for name in 'CVJ')
        progress.best = math.nan if best is None else number(best['J'])
        progress.accepted = float(last.get('accepted', True))
        progress.rolled_back = sum(not record['accepted'] for record in done)
        progress.unsafe_flights = sum(record['unsafe_flights'] for record in records)
        progress.seconds = last['seconds']
        for name in ('trust', 'predicted_change', 'measured_change', 'step_size'):
            value = done[-1].get(name) if done else None  # a closing flight has none of its own
            setattr(progress, name, math.nan if value is None else float(value))
        if not progress.accepted:
            progress.reason = last['reason']
        recent = [record['seconds'] for record in done[-10:]]
        progress.time_left = (training_run.total - training_run.k) * float(np.mean(recent or [0.0]))
        told: dict[str, Any] = next((r['identified'] for r in done[::-1] if 'identified' in r), {})
        found = {name: each for name, each in told.items() if each['told']}
        if found:
            message = JointState(
                name=list(found),
                position=[each['estimate'] for each in found.values()],
                effort=[each['standard_error'] for each in found.values()],
            )
            self._identified_publisher.publish(message)
        rows = [
            [number(r['k']), *(number(r[name]) for name in COLUMNS[1:4]), r.get('accepted', True)]
            for r in records
        ]
        self._history_publisher.publish(history_message(rows))

    def _tell(self, state: str, message: str) -> None:
        self._progress.state, self._progress.message = state, message
        self._publish()

    def _wait_for(self, text: str) -> None:
        self._progress.message = text
        if self._is_new(text):
            self.get_logger().info(text)

    def _warn(self, text: str) -> None:
        self._progress.reason = text
        if self._is_new(text):
            self.get_logger().warning(text)
        self._publish()

    def _is_new(self, text: str) -> bool:
        """Say whether a sentence was not logged a moment ago."""
        now = time.monotonic()
        self._said = {t: at for t, at in self._said.items() if now - at < SAY_AGAIN}
        return self._said.setdefault(text, now) == now

    def _publish(self) -> None:
        self._published = time.monotonic()
        name = self.get_fully_qualified_name().lstrip('/')
        message = DiagnosticArray(
            status=[status_from_progress(self._progress, f'{name}: learning')]
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._progress_publisher.publish(message)
        self._meeting_publisher.publish(message)
        self._diagnostics_publisher.publish(message)

    # -- files ---------------------------------------------------------------------------------

    def _record(self) -> None:
        """Begin the recording that is asked for, once; learning goes on when that fails."""
        if not self._settings['record'] or self._recording is not None:
            return
        name = f'recording-{time.strftime("%Y%m%d-%H%M%S")}.mcap'
        try:
            path = Path(self._settings['results']) / name
            topics = (*flight_topics(self._flyer.interface), *OWN)
            self._recording = Recording(self, path, topics, self._warn)
        except RecordingError as error:
            self._warn(str(error))

    def _write_weights(self, name: str, record: Record) -> None:
        self._training.write_weights(
            Path(self._settings['results']) / name,
            self._policy_of(record),
            {**origin(record), 'seed': self._settings['seed']},
        )

    def _note_times(self, record: Record, total: float, gradient: float) -> None:
        """Keep where an iteration's time went; nothing depends on it."""
        watch = self._flyer.stopwatch
        split = {
            'k': record['k'],
            'total': total,
            'flight': watch.flight,
            'gradient': gradient,
            'parameters': watch.parameters,
            'reset': watch.reset,
            'waiting': total - watch.total() - gradient,
        }
        append_timing(self._settings['results'], split)

    def destroy_node(self) -> None:
        """Give the controller its accepted weights back, as far as that is still possible."""
        with contextlib.suppress(Exception):
            self._flyer.weights.restore_at_once()
        if self._recording is not None:
            self._recording.close()
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return run(Learner, args)


if __name__ == '__main__':
    raise SystemExit(main())
