"""Passes odometry on from ``odom_true`` to ``odom``, badly; for the fault tests.

HMPC_TEST_RELAY=drop:0.05    loses that share of the states when they are sent first, chosen by
                             their stamps: the same ones however busy the machine is
HMPC_TEST_RELAY=repeat:0.2   sends that share of the messages again, after the next one
"""

import os
import random

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time

from hmpc_ros.ros.spinning import run

KIND, _, SHARE = os.environ['HMPC_TEST_RELAY'].partition(':')


class Relay(Node):
    def __init__(self):
        super().__init__('relay')
        deep = QoSProfile(depth=100)
        self.random = random.Random(1)
        self.dropped: set[int] = set()
        self.last = None
        self.publisher = self.create_publisher(Odometry, 'odom', deep)
        self.create_subscription(Odometry, 'odom_true', self.on_odometry, deep)

    def on_odometry(self, message):
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        lost = KIND == 'drop' and random.Random(stamp).random() < float(SHARE)
        if lost and stamp not in self.dropped:
            self.dropped.add(stamp)
            self.get_logger().info(f'dropped {len(self.dropped)}')
            return
        self.publisher.publish(message)
        if KIND == 'repeat':
            if self.last is not None:
                self.publisher.publish(self.last)
            self.last = message if self.random.random() < float(SHARE) else None


if __name__ == '__main__':
    raise SystemExit(run(Relay))
