"""Floods a node with parameter requests: ``python flood.py NODE RATE``, until it is killed.

``RATE`` requests a second of one new ``policy.q``, each of which costs a Riccati equation, and all
the time one request of 5,000 of them. Writes ``flooding`` when the first ones are sent.
"""

import sys
import time

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter


def main(target, rate):
    rclpy.init()
    node = Node('flood', start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    client = node.create_client(SetParameters, f'{target}/set_parameters')
    client.wait_for_service()

    def weights(i):
        return Parameter('policy.q', value=[1.0 + 1e-6 * i] * 12).to_parameter_msg()

    big = SetParameters.Request(parameters=[weights(i) for i in range(5000)])
    pending = client.call_async(big)
    begun, sent = time.monotonic(), 0
    print('flooding', flush=True)
    while True:
        for _ in range(int((time.monotonic() - begun) * rate) - sent):
            sent += 1
            client.call_async(SetParameters.Request(parameters=[weights(sent)]))
        if pending.done():
            pending = client.call_async(big)
        executor.spin_once(timeout_sec=0.5 / rate)


if __name__ == '__main__':
    main(sys.argv[1], float(sys.argv[2]))
