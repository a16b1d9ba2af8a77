"""Flight and learning for a long time, under kills, stops, floods and damaged messages.

    make soak MINUTES=30

Real processes: simulator, controller and learner, each of which is killed and started again, held
up, flooded with parameter requests and sent what no honest peer would send. What must hold:

* every command ever heard is finite and inside the rotor limits;
* no iteration that was ever recorded is lost or changes, and the best is never handed back;
* after the last blow the learner learns on, and the controller flies what was accepted;
* the memory of a process does not grow while it lives.

The first third goes without kills, so that memory is watched over long lives.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from learning_graph import LearningGraph
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState

from hmpc_ros.learning.results import number
from hmpc_ros.ros.runner import LocalRunner

NODES = ('simulator', 'controller', 'learner')
SETTLED = 60.0  # s of a life after which its memory should stay
BETWEEN = (0.5, 6.0)  # s between two blows
OURS = ['soak']  # rotors of the commands that no controller sent
ODD = (math.nan, math.inf, -math.inf, 1e300, -1e12)


class SoakGraph(LearningGraph):
    """The graph, told apart from the commands that the soak itself sends."""

    def __init__(self, results: Path, stack: ExitStack, **parameters) -> None:
        self.wrong: list[str] = []
        super().__init__(results, stack, **parameters)

    def _on_command(self, message: JointState) -> None:
        if message.name == OURS:
            return
        self.commands += 1
        if not all(math.isfinite(v) and 0 <= v <= 630 for v in message.velocity):
            self.wrong.append(f'command {list(message.velocity)}')


class Soak:
    """One run; `report` tells what happened."""

    def __init__(self, graph: SoakGraph, rng: np.random.Generator) -> None:
        self.graph, self.rng = graph, rng
        self.blows: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.wrong = graph.wrong
        self.kept: list[dict] = []
        self.stops: Counter[str] = Counter()
        self.lives: list[dict] = []
        self._life: dict[str, dict] = {}
        node, deep = graph.monitor.node, QoSProfile(depth=10)
        self._odometry = node.create_publisher(Odometry, 'odom', deep)
        self._goal = node.create_publisher(PoseStamped, 'goal_pose', deep)
        self._last: Odometry | None = None
        node.create_subscription(Odometry, 'odom', self._hear, deep)
        self._setters = {
            name: node.create_client(SetParameters, f'{name}/set_parameters') for name in NODES
        }

    # -- what is watched -----------------------------------------------------------------------

    def _hear(self, message: Odometry) -> None:
        if message.header.frame_id == 'map':
            self._last = message

    def look(self) -> None:
        """Compare what is recorded with what was recorded before."""
        try:
            records = [r for r in self.graph.records() if r['kind'] == 'iteration']
        except (OSError, ValueError):
            return  # being written, or nothing yet
        for before, now in zip(self.kept, records, strict=False):
            if before != now:
                self.wrong.append(f'iteration {before["k"]} changed')
        if len(records) < len(self.kept):
            self.wrong.append(f'{len(self.kept)} iterations were kept, {len(records)} are left')
        else:
            self.kept = records
        for name in NODES:
            self._measure(name)

    def _measure(self, name: str) -> None:
        if name not in self.graph.runners or not self.graph.alive(name):
            return
        pid, now = self.graph.runners[name].pid(name), time.monotonic()
        life = self._life.get(name)
        if life is None or life['pid'] != pid:
            life = {'node': name, 'pid': pid, 'begun': now, 'settled': None, 'end': None}
            self._life[name] = life
            self.lives.append(life)
        pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
        life['end'], life['seconds'] = pages * resource.getpagesize() / 2**20, now - life['begun']
        if life['settled'] is None and life['seconds'] > SETTLED:
            life['settled'] = life['end']

    def wait(self, seconds: float) -> None:
        """Let things happen, and look."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.graph.monitor.listen(min(0.5, max(0.0, until - time.monotonic())))
        self.look()

    def revive(self) -> None:
        """Start what ended by itself again, and note why."""
        for name in NODES:
            if not self.graph.alive(name):
                last = self.graph.output(name)[-2000:]
                self.wrong.append(f'{name} ended by itself: {last}')
                self.graph.start(name)
        if self.graph.state == 'stopped':
            self.stops[self.graph.monitor.progress.message] += 1
            self.graph.kill('learner')
            self.graph.monitor.progress = None
            self.graph.start('learner')

    # -- blows ---------------------------------------------------------------------------------

    def blow(self, deadly: bool) -> None:
        kinds = ['hold', 'flood', 'odometry', 'goals', 'parameters', 'commands']
        kinds += ['kill'] * 6 if deadly else []
        kind, name = str(self.rng.choice(kinds)), str(self.rng.choice(NODES))
        self.blows[kind if kind not in ('kill', 'flood', 'hold') else f'{kind} {name}'] += 1
        getattr(self, kind)(name)

    def kill(self, name: str) -> None:
        self.graph.kill(name)
        self.look()
        if name == 'learner' and self.rng.random() < 0.3:
            # A power failure in the middle of a line.
            with (self.graph.results / 'iterations.jsonl').open('ab') as log:
                log.write(b'{"kind": "iteration", "k": 7, "C": 1')
            self.blows['half a line in the log'] += 1
        self.wait(self.rng.uniform(0.0, 2.0))
        self.graph.start(name)

    def hold(self, name: str) -> None:
        self.graph.signal(name, signal.SIGSTOP)
        self.wait(self.rng.uniform(0.1, 3.0))
        self.graph.signal(name, signal.SIGCONT)

    def flood(self, name: str) -> None:
        script = Path(__file__).parents[1] / 'test' / 'flood.py'
        environment = self.graph.runners[name].environment
        words = [sys.executable, str(script), name, '1000', str(self.rng.choice(('set', 'read')))]
        with subprocess.Popen(words, env=environment) as it:
            self.wait(self.rng.uniform(2.0, 5.0))
            it.kill()

    def odometry(self, _name: str) -> None:
        for _ in range(int(self.rng.integers(20, 300))):
            message = Odometry()
            if self._last is not None:
                message.header.stamp = self._last.header.stamp
                message.header.frame_id = self._last.header.frame_id
                message.child_frame_id = self._last.child_frame_id
            message.pose.pose.orientation.w = 1.0
            odd = float(self.rng.choice(ODD))
            match int(self.rng.integers(5)):
                case 0:
                    message.pose.pose.position.z = odd
                case 1:
                    message.twist.twist.angular.x = odd
                case 2:
                    message.pose.pose.orientation.w = 0.0
                case 3:
                    message.header.frame_id = str(self.rng.choice(['', 'odom_ned', 'x' * 10_000]))
                case 4:
                    message.pose.pose.orientation.x = odd
            self._odometry.publish(message)
            self.sent['odometry'] += 1

    def goals(self, _name: str) -> None:
        for _ in range(50):
            message = PoseStamped()
            message.header.frame_id = str(self.rng.choice(['map', '', 'nowhere']))
            message.pose.position.x = float(self.rng.choice(ODD))
            message.pose.orientation.w = float(self.rng.choice([0.0, *ODD]))
            self._goal.publish(message)
            self.sent['goals'] += 1

    def commands(self, _name: str) -> None:
        # While there are two publishers the learner records no flight.
        node = self.graph.monitor.node
        publisher = node.create_publisher(JointState, 'rotor_command', 10)
        for _ in range(50):
            values = [float(self.rng.choice(ODD)) for _ in range(int(self.rng.integers(0, 7)))]
            publisher.publish(JointState(name=OURS, velocity=values))
            self.sent['commands'] += 1
        self.wait(0.5)
        node.destroy_publisher(publisher)

    def parameters(self, name: str) -> None:
        values = [
            ParameterValue(type=200),
            ParameterValue(type=10),
            ParameterValue(type=3, double_value=math.nan),
            ParameterValue(type=8, double_array_value=[math.nan] * 12),
            ParameterValue(type=8, double_array_value=[1e155] * 78),
            ParameterValue(type=4, string_value='x' * 100_000),
        ]
        names = ['policy.q', 'policy.p', 'policy.lease', 'time_step', 'goal.position', 'nothing']
        names += ['limits.velocity', 'real_time_factor', 'iterations']
        client = self._setters[name]
        for _ in range(30):
            chosen = values[int(self.rng.integers(len(values)))]
            request = SetParameters.Request(
                parameters=[Parameter(name=str(self.rng.choice(names)), value=chosen)]
            )
            if client.service_is_ready():
                client.call_async(request)
                self.sent['parameters'] += 1

    # -- the end -------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the last blow learning goes on, and the controller flies."""
        begun = len(self.kept)
        self.graph.until(lambda: self._went_on(begun), 'learning to go on', wait=300.0)
        self.graph.until_flying()

    def _went_on(self, begun: int) -> bool:
        self.wait(0.5)
        return len(self.kept) > begun

    def report(self) -> dict:
        long = [life for life in self.lives if life['settled'] is not None]
        growth = {
            name: max((x['end'] - x['settled'] for x in long if x['node'] == name), default=None)
            for name in NODES
        }
        return {
            'blows': dict(self.blows),
            'sent': dict(self.sent),
            'states heard': self.graph.states,
            'commands checked': self.graph.commands,
            'iterations kept': len(self.kept),
            'J of the first': number(self.kept[0]['J']) if self.kept else None,
            'J of the best': min((number(r['J']) for r in self.kept), default=None),
            'learner gave up': dict(self.stops),
            'largest growth of a life [MiB]': growth,
            'longest life [s]': {
                n: max((x['seconds'] for x in self.lives if x['node'] == n), default=0.0)
                for n in NODES
            },
            'wrong': self.wrong,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--pace', type=float, default=0.0, help='times real time; 0 (the default): all it can'
    )
    parser.add_argument('--out', type=Path, default=Path('build/soak'))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / time.strftime('run-%Y%m%d-%H%M%S')
    begun = time.monotonic()
    left = 60 * options.minutes
    learner = {'rule': 'trust_region', 'iterations': 100_000}
    with ExitStack() as stack:
        # One ROS domain for all processes and for this one.
        runner = stack.enter_context(LocalRunner([]))
        os.environ.update(
            {n: v for n, v in runner.environment.items() if n.startswith(('ROS_', 'FASTDDS_'))}
        )
        simulator = {'real_time_factor': options.pace}
        graph = SoakGraph(results, stack, learner=learner, simulator=simulator)
        soak = Soak(graph, np.random.default_rng(options.seed))
        graph.start()
        try:
            graph.until(lambda: graph.state == 'learning', 'learning to begin', wait=300.0)
            told = 0.0
            while (passed := time.monotonic() - begun) < left:
                soak.blow(deadly=passed > left / 3)
                soak.wait(soak.rng.uniform(*BETWEEN))
                soak.revive()
                if passed - told > 30:
                    told = passed
                    print(
                        f'{passed / 60:5.1f} min: {sum(soak.blows.values())} blows, '
                        f'{graph.commands} commands, {len(soak.kept)} iterations, '
                        f'{len(soak.wrong)} wrong',
                        flush=True,
                    )
            soak.finish()
        except KeyboardInterrupt:
            print('stopped; this is what was seen until now')
        except AssertionError as error:
            soak.wrong.append(str(error)[:5000])
            print(error)
        report = {
            'seed': options.seed,
            'pace': options.pace,
            'minutes': (time.monotonic() - begun) / 60,
            'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
            'python': platform.python_version(),
            **soak.report(),
        }
    (options.out / 'soak.json').write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    print(json.dumps(report, indent=2))
    return bool(soak.wrong)


if __name__ == '__main__':
    raise SystemExit(main())
