"""Peers of an adapter: an autopilot that speaks MAVLink over UDP, and a controller that answers."""

import contextlib
import math
import os
import socket
import threading
import time
from dataclasses import dataclass, field

os.environ['MAVLINK20'] = '1'

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from hmpc_ros.autopilots import frames, mavlink
from hmpc_ros.autopilots.thrust import GRAVITY
from hmpc_ros.plant.odometry import to_world
from hmpc_ros.ros.graph import NodeSpec
from hmpc_ros.ros.runner import LocalRunner

WAIT = 200.0  # s; a bound for what must happen, not a measurement
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
POSITION, HOLD, OFFBOARD = 3 << 16, 4 << 16 | 3 << 24, 6 << 16  # PX4's custom modes
TAKEOFF = 4 << 16 | 2 << 24
GUIDED, LOITER, BRAKE = 4, 5, 17  # ArduPilot's


def run_to_its_end(runner: LocalRunner) -> None:
    """Wait until a process ends; `LocalRunner.check` raises its words then."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        runner.check()
        time.sleep(0.1)


@dataclass
class MavlinkAutopilot:
    """An autopilot that holds still and does what its fields say; call `stop` at the end."""

    port: int
    autopilot: int = mavlink.PX4
    mode: int = POSITION
    armed: bool = True
    position: tuple = (0.0, 0.0, -2.0)  # NED
    quaternion: tuple = (1.0, 0.0, 0.0, 0.0)
    velocity: tuple = (0.0, 0.0, 0.0)
    rates: tuple = (0.1, 0.2, 0.3)  # FRD
    child_frame: int = 12
    resets: int = 0
    quality: int = 0
    throttle: float = 0.49
    obeys: bool = True
    battery: int = 80  # per cent
    options: int = 0
    answers_time: bool = True
    after_take_off: int = 0  # mode, if not the same
    orders: list = field(default_factory=list)  # to arm and to take off, with the height
    system: int = 1
    boot: float = field(default_factory=time.monotonic)
    setpoints: list = field(default_factory=list)  # (time, roll rate, pitch rate, yaw rate, thrust)
    modes: list = field(default_factory=list)  # asked for
    intervals: dict = field(default_factory=dict)

    def __post_init__(self):
        from pymavlink import mavutil

        self._link = mavutil.mavlink_connection(
            f'udpout:127.0.0.1:{self.port}', source_system=self.system, source_component=1,
            dialect='common',
        )  # fmt: skip
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._end.set()
        self._thread.join()
        self._link.close()

    def _run(self):
        turn = 0
        while not self._end.wait(0.01):
            self._tell(turn)
            turn += 1
            while (message := self._link.recv_msg()) is not None:
                self._take(message)

    def _tell(self, turn):
        mav = self._link.mav
        if turn % 10 == 0:
            mav.heartbeat_send(2, self.autopilot, 128 if self.armed else 0, self.mode, 4)
            mav.sys_status_send(0, 0, 0, 0, 15800, -1, self.battery, 0, 0, 0, 0, 0, 0)
        microseconds = round(1e6 * (time.monotonic() - self.boot))
        if mavlink.ATTITUDE_TARGET in self.intervals and turn % 5 == 0:
            level = [1.0, 0.0, 0.0, 0.0]
            mav.attitude_target_send(microseconds // 1000, 0, level, 0.0, 0.0, 0.0, self.throttle)
        if mavlink.ODOMETRY in self.intervals or turn % 3 == 0:  # as PX4 does unasked
            unknown = [math.nan] * 21
            mav.odometry_send(
                microseconds, 1, self.child_frame, *self.position, list(self.quaternion),
                *self.velocity, *self.rates, unknown, unknown, self.resets, 8, self.quality,
            )  # fmt: skip

    def _take(self, message):
        kind = message.get_type()
        if kind == 'SET_ATTITUDE_TARGET':
            rates = message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate
            self.setpoints.append((time.monotonic(), *rates, message.thrust))
            assert message.type_mask == 128
        elif kind == 'COMMAND_LONG' and message.command == 176:
            wanted = tuple(round(p) for p in (message.param1, message.param2, message.param3))
            self.modes.append(wanted)
            if self.obeys:
                px4 = wanted[1] << 16 | wanted[2] << 24
                self.mode = px4 if self.autopilot == mavlink.PX4 else wanted[1]
            self._link.mav.command_ack_send(176, 0 if self.obeys else 2)
        elif kind == 'COMMAND_LONG' and message.command in (400, 22):  # arm, take off
            self.orders.append((message.command, message.param7))
            self.armed = self.armed or message.command == 400
            if message.command == 22 or self.mode == TAKEOFF:
                self.position, self.mode = (0.0, 0.0, -2.0), self.after_take_off or self.mode
        elif kind == 'TIMESYNC' and message.tc1 == 0:
            if self.answers_time:
                time_now = round(1e9 * (time.monotonic() - self.boot))
                self._link.mav.timesync_send(time_now, message.ts1)
        elif kind == 'COMMAND_LONG' and message.command == 511:
            self.intervals[round(message.param1)] = message.param2
        elif kind == 'PARAM_REQUEST_READ' and message.param_id == 'GUID_OPTIONS':
            self._link.mav.param_value_send(b'GUID_OPTIONS', float(self.options), 6, 1, 0)


class FlyingAutopilot(MavlinkAutopilot):
    """One whose vehicle flies: it holds still by itself, and obeys rates and thrust in offboard.

    A mass with linear drag; thrust and rates follow with lags, commands come 20 ms late.
    """

    HOVER, DRAG, DELAY = 0.49, 0.3, 0.02
    THRUST_LAG, RATE_LAGS = 0.055, np.array([0.06, 0.06, 0.3])
    STEP = 0.002

    def __post_init__(self):
        self.place, self.speed = np.array([0.0, 0.0, 2.0]), np.zeros(3)  # ENU
        self.turned, self.turning = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3)  # FLU
        self.thrust = GRAVITY
        self._until = time.monotonic()
        super().__post_init__()

    def _tell(self, turn):
        # On a machine that is too busy it loses time instead of falling silent to catch up.
        self._until = max(self._until, time.monotonic() - 0.2)
        while self._until < time.monotonic():
            self._until += self.STEP
            self._fly(self.STEP)
        self.position, self.velocity = frames.world(*self.place), frames.world(*self.speed)
        self.quaternion = frames.orientation(*self.turned)
        self.rates = frames.body(*self.turning)
        self.child_frame = 1
        super()._tell(turn)

    def _fly(self, step):
        if self.mode != OFFBOARD or not self.setpoints:
            self.speed[:] = self.turning[:] = 0.0
            self.thrust, self.turned = GRAVITY, np.array([1.0, 0.0, 0.0, 0.0])
            return
        old = [s for s in self.setpoints[-20:] if s[0] + self.DELAY <= self._until]
        _, *rates, throttle = (old or self.setpoints)[-1]
        self.turning += step * (np.array(frames.body(*rates)) - self.turning) / self.RATE_LAGS
        self.thrust += step * (throttle / self.HOVER * GRAVITY - self.thrust) / self.THRUST_LAG
        w, x, y, z = self.turned
        p, q, r = self.turning
        axis = np.array(to_world((x, y, z, w), 0.0, 0.0, 1.0))
        self.place += step * self.speed
        self.speed += step * (self.thrust * axis - [0.0, 0.0, GRAVITY] - self.DRAG * self.speed)
        change = (
            -x * p - y * q - z * r,
            w * p + y * r - z * q,
            w * q - x * r + z * p,
            w * r + x * q - y * p,
        )
        self.turned = self.turned + 0.5 * step * np.array(change)
        self.turned /= np.linalg.norm(self.turned)


class ScriptedController:
    """Answers every odometry with one command, and sees what an adapter tells.

    Attributes:
        command: thrust [m/s^2] and body rates [rad/s].
        answers, solves: whether it answers, and whether it says that a solve is behind it.
        stamp_shift: what is wrong with the stamps of its answers [ns].
    """

    def __init__(self, runner: LocalRunner, adapter: str):
        self.runner = runner
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('scripted', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.command = (9.80665, 0.1, 0.2, 0.3)
        self.answers = self.solves = True
        self.stamp_shift = 0
        self.odometry: Odometry | None = None
        self.takeover = DiagnosticStatus()
        node = self.node
        node.create_subscription(Odometry, 'odom', self._on_odometry, 1)
        node.create_subscription(
            DiagnosticStatus, f'{adapter}/takeover', self._on_takeover, LATCHED
        )
        self._commands = node.create_publisher(TwistStamped, 'rates_command', 1)
        self._estimates = node.create_publisher(JointState, 'estimates', 1)
        self._path = node.create_publisher(Path, 'reference_path', LATCHED)
        self._services = {
            name: node.create_client(Trigger, f'{adapter}/{name}')
            for name in ('engage', 'hand_back', 'take_off')
        }

    def _on_odometry(self, message: Odometry) -> None:
        self.odometry = message
        if self.answers:
            answer = TwistStamped(header=message.header)
            nanoseconds = answer.header.stamp.nanosec + self.stamp_shift
            answer.header.stamp.nanosec = min(nanoseconds, 999_999_999)
            angular = answer.twist.angular
            answer.twist.linear.z, angular.x, angular.y, angular.z = self.command
            self._commands.publish(answer)
            if self.solves:
                self._estimates.publish(JointState(header=message.header))

    def _on_takeover(self, message: DiagnosticStatus) -> None:
        self.takeover = message

    def told(self, name: str) -> str:
        return {pair.key: pair.value for pair in self.takeover.values}.get(name, '')

    @property
    def phase(self) -> str:
        return self.told('phase')

    def stay_at(self, x: float, y: float, z: float) -> None:
        """Publish a reference that stays at a place."""
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x, y, z
        self._path.publish(Path(poses=[pose, pose]))

    def wait_for(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            self.runner.check()
            assert time.monotonic() < end, f'waited {WAIT:g} s for {what}: {self.takeover.message}'
            self.executor.spin_once(timeout_sec=0.05)

    def go_on(self, seconds: float) -> None:
        """Answer for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, name: str) -> tuple[bool, str]:
        client = self._services[name]
        self.wait_for(client.service_is_ready, f'the service {name}')
        future = client.call_async(Trigger.Request())
        self.wait_for(future.done, f'an answer of {name}')
        return future.result().success, future.result().message

    def engage(self) -> None:
        """Engage from a hover at the reference."""
        self.stay_at(0.0, 0.0, 2.0)
        self.wait_for(lambda: self.phase == 'ready', 'ready')
        assert self.call('engage') == (True, 'engaging')
        self.wait_for(lambda: self.phase == 'taken over', 'the take-over')

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@contextlib.contextmanager
def mavlink_flight(parameters=(), beside=(), **autopilot):
    """Run the MAVLink adapter, and nodes beside it, between an autopilot and a controller."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    spec = NodeSpec(
        executable='mavlink_adapter',
        module='hmpc_ros.ros.mavlink_adapter_node',
        name='mavlink_adapter',
        parameters={
            'url': f'udp:127.0.0.1:{port}', 'hover_throttle': 0.5, 'max_latency': 1.0,
            'solve_timeout': 1.0, 'state_timeout': 1.0, **dict(parameters),
        },
    )  # fmt: skip
    with LocalRunner([spec, *beside]) as runner, contextlib.ExitStack() as stack:
        peer = MavlinkAutopilot(port, **autopilot)
        stack.callback(peer.stop)
        controller = ScriptedController(runner, 'mavlink_adapter')
        stack.callback(controller.close)
        yield peer, controller
