"""A learning graph of real processes that tests can kill, stop and start again, node by node."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.configuration import files, learner
from hmpc_ros.configuration.signature import LEARNED
from hmpc_ros.learning.results import read_records
from hmpc_ros.ros.command_interface import RATES, ROTORS
from hmpc_ros.ros.graph import NodeSpec, find_config, learning
from hmpc_ros.ros.monitor import open_monitor
from hmpc_ros.ros.runner import LocalRunner
from hmpc_ros.ros.trial_lease import LEASE

# A bound for what must happen at all, never a measurement.
WAIT = 90.0  # s



class LearningGraph:
    """Simulator, controller and learner as processes, and an observer in this one.

    Every command that was ever heard is checked: finite, and inside the rotor limits.
    """

    def __init__(self, results: Path, stack: ExitStack, config: str = 'reference', **parameters):
        self.results = results
        self._stack = stack
        values = {
            'simulator': {'real_time_factor': 0.0, 'resend_period': 0.05},
            'controller': {},
            'learner': {'results': str(results), 'rule': 'paper', 'iterations': 3, 'lease': 1.0},
        }
        for name, given in parameters.items():
            values[name].update(given)
        self.values = values
        self.specs = {
            spec.name: spec
            for spec in learning(config, values, steps=values['learner'].get('steps', 200))
        }
        self.runners: dict[str, LocalRunner] = {}
        self.monitor = stack.enter_context(open_monitor())
        node = self.monitor.node
        deep = QoSProfile(depth=1000)
        self.states = self.commands = 0
        self.stamps: list[int] = []
        self.commanded = 0
        self.worst: float = 0.0
        node.create_subscription(Odometry, 'odom', self._on_odometry, deep)
        self.kind = files.load(find_config(config))['controller']['policy.kind']
        self.interface = RATES if self.kind == 'tracking' else ROTORS
        topic, message = self.interface.topic, self.interface.message
        node.create_subscription(message, topic, self._on_command, deep)
        self._getter = node.create_client(GetParameters, 'controller/get_parameters')
        self._setter = node.create_client(
            SetParametersAtomically, 'controller/set_parameters_atomically'
        )

    def _on_odometry(self, message: Odometry) -> None:
        self.states += 1

    def _on_command(self, message: JointState | TwistStamped) -> None:
        self.commands += 1
        command = np.empty(self.interface.inputs)
        self.interface.read_command(message, command)
        low, high = (0, 630) if self.interface is ROTORS else (-20, 40)
        assert all(math.isfinite(value) and low <= value <= high for value in command)

    # -- processes -----------------------------------------------------------------------------

    def start(self, *names: str) -> LearningGraph:
        for name in names or self.specs:
            runner = LocalRunner([self.specs[name]])
            self.runners[name] = self._stack.enter_context(runner)
        return self

    def through(self, module: str, name: str = 'learner', **environment: str) -> LearningGraph:
        """Start a node later by a module of this folder instead of its own."""
        self.specs[name] = replace(self.specs[name], module=module)
        os.environ.update(environment)
        os.environ['PYTHONPATH'] = os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]
        )
        return self

    def remap(self, name: str, *pairs: tuple[str, str]) -> LearningGraph:
        self.specs[name] = replace(self.specs[name], remappings=pairs)
        return self

    def add(self, spec: NodeSpec) -> LearningGraph:
        self.specs[spec.name] = spec
        return self

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.runners[name].pid(name), number)

    def kill(self, name: str) -> None:
        """End a process as a power failure would."""
        self.signal(name, signal.SIGKILL)
        self.until(lambda: not self.alive(name), f'the end of {name}')

    def alive(self, name: str) -> bool:
        try:
            self.runners[name].check()
        except RuntimeError:
            return False
        return True

    def output(self, name: str) -> str:
        return '\n'.join(self.runners[name].output(name))

    # -- waiting -------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], what: str, wait: float = WAIT) -> None:
        deadline = time.monotonic() + wait
        while not condition():
            if time.monotonic() > deadline:
                lines = '\n'.join(
                    f'--- {name}\n{self.output(name)[-3000:]}' for name in self.runners
                )
                raise AssertionError(
                    f'waited {wait:g} s for {what}; {self.monitor.progress}\n{lines}'
                )
            self.monitor.listen(0.01)

    def until_flight(self, purpose: str, after: int = 0) -> None:
        """Wait until a flight of that purpose, with at least that number, is in the air."""

        def in_the_air() -> bool:
            progress = self.monitor.progress
            if progress is None or not progress.flight.startswith(purpose):
                return False
            return progress.state == 'learning' and int(progress.flight.split()[1]) >= after

        self.until(in_the_air, f'a {purpose} flight')
        heard = self.states
        self.until(lambda: self.states > heard + 5, 'its first steps')

    def held_in(self, purpose: str, after: int) -> LearningGraph:
        """Let the learner stop by itself in a flight, so that no test has to be quicker than it."""
        return self.through('hurt_learner', HMPC_TEST_HURT=f'hold:{purpose}:{after}')

    def until_held(self) -> None:
        """Wait until the learner stands still in the flight of `held_in`."""
        stat = Path(f'/proc/{self.runners["learner"].pid("learner")}/stat')
        self.until(lambda: stat.read_text().rpartition(')')[2].split()[0] == 'T', 'its stop')

    def until_done(self) -> None:
        self.until(lambda: self.state in ('done', 'stopped'), 'the end of learning', wait=300.0)
        assert self.state == 'done', self.monitor.progress
        self.monitor.listen(0.1)

    def until_stopped(self, words: str) -> None:
        self.until(lambda: self.state == 'stopped', 'learning to stop')
        assert words in self.monitor.progress.message

    def until_output(self, name: str, words: str) -> None:
        self.until(lambda: words in self.output(name), f'{name} to say "{words}"')

    def until_flying(self) -> None:
        """Wait until new commands are heard: the controller flies on."""
        heard = self.commands
        self.until(lambda: self.commands > heard + 2, 'commands')

    @property
    def state(self) -> str:
        return self.monitor.progress.state if self.monitor.progress else ''

    # -- the controller ------------------------------------------------------------------------

    def policy(self) -> tuple[np.ndarray, float]:
        """Return what is learned (94,) or (37,) on the controller, and its lease."""
        names = [name for name in LEARNED[self.kind] if name != 'policy.model']
        values = self.call(self._getter, GetParameters.Request(names=[*names, LEASE])).values
        *blocks, lease = (parameter_value_to_python(value) for value in values)
        return np.concatenate([np.atleast_1d(block) for block in blocks]), lease

    def ask(self, *names: str) -> list:
        """Return parameters of the controller."""
        values = self.call(self._getter, GetParameters.Request(names=list(names))).values
        return [
            list(value) if hasattr(value, '__len__') and not isinstance(value, str) else value
            for value in map(parameter_value_to_python, values)
        ]

    def set_policy(self, **values):
        """Set ``policy.*`` of the controller by hand; return the answer."""
        return self.set({f'policy.{name}': value for name, value in values.items()})

    def set(self, values: dict):
        """Set parameters of the controller by hand; return the answer."""
        parameters = [
            (
                Parameter(name, Parameter.Type.DOUBLE_ARRAY, [])
                if value == []
                else Parameter(name, value=value)
            ).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=parameters)
        return self.call(self._setter, request).result

    def call_learner(self, service: str):
        client = self.monitor.node.create_client(Trigger, f'learner/{service}')
        return self.call(client, Trigger.Request())

    def call(self, client, request):
        self.until(client.service_is_ready, client.srv_name)
        answer = client.call_async(request)
        self.until(answer.done, f'an answer from {client.srv_name}')
        return answer.result()

    def until_kept(self, theta: np.ndarray) -> None:
        """Wait until the controller flies these weights, for good."""

        def kept() -> bool:
            weights, lease = self.policy()
            return lease == 0.0 and len(weights) == len(theta) and np.array_equal(weights, theta)

        self.until(kept, 'the controller to fly the accepted weights')

    # -- results -------------------------------------------------------------------------------

    def records(self) -> list[dict]:
        return read_records(self.results)[1]

    def accepted_theta(self) -> np.ndarray:
        """Return the weights that were accepted last, of finished iterations."""
        return np.array(self.records()[-1]['theta'])


def offline_records(folder: Path, **parameters) -> list[dict]:
    """Train without ROS, with the same parameters; return the records."""
    parameters = {**parameters, 'learner': {'rule': 'paper', **parameters.get('learner', {})}}
    overrides = [
        f'{node}.{name}={value}'
        for node, values in parameters.items()
        for name, value in values.items()
    ]
    configuration = files.load(None, ['controller.goal.position=[-6.0, -3.5, 0.0]', *overrides])
    return learner.train_offline(configuration, folder).results.records


def assert_same_run(records: list[dict], others: list[dict], rtol: float = 1e-6) -> None:
    assert [r['k'] for r in records] == [r['k'] for r in others]
    for name in ('C', 'V', 'J'):
        a, b = ([record[name] for record in each] for each in (records, others))
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)
    assert [r['flights'] for r in records] == [r['flights'] for r in others]
