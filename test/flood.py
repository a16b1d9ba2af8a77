"""Floods a node with parameter requests, ``python flood.py NODE RATE KIND``, until it is killed.

KIND ``set``: RATE requests a second of a new ``policy.q``, each of which costs a Riccati equation,
and all the time one request of 5,000 of them. ``read``: RATE requests a second to get, describe,
tell the types of and list parameters, in turn. Writes ``flooding`` when the first ones are sent.
"""

import sys
import time

import rclpy
from rcl_interfaces import srv
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

NAMES = ['policy.q', 'policy.p', 'goal.position', 'limits.velocity'] * 10


def weights(i):
    return Parameter('policy.q', value=[1.0 + 1e-6 * i] * 12).to_parameter_msg()


def new_weights(i):
    return srv.SetParameters.Request(parameters=[weights(i)])


def many_weights():
    return srv.SetParameters.Request(parameters=[weights(i) for i in range(5000)])


# By kind: service, its type, what is requested the i-th time.
REQUESTS = {
    'set': [('set_parameters', srv.SetParameters, new_weights)],
    'read': [
        ('get_parameters', srv.GetParameters, lambda i: srv.GetParameters.Request(names=NAMES)),
        (
            'describe_parameters',
            srv.DescribeParameters,
            lambda i: srv.DescribeParameters.Request(names=NAMES),
        ),
        (
            'get_parameter_types',
            srv.GetParameterTypes,
            lambda i: srv.GetParameterTypes.Request(names=NAMES),
        ),
        ('list_parameters', srv.ListParameters, lambda i: srv.ListParameters.Request()),
    ],
}


def main(target, rate, kind):
    rclpy.init()
    node = Node('flood', start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    requests = []
    for service, type_, request in REQUESTS[kind]:
        client = node.create_client(type_, f'{target}/{service}')
        client.wait_for_service()
        requests.append((client, request))
    big = many_weights() if kind == 'set' else None
    pending = None
    begun, sent = time.monotonic(), 0
    print('flooding', flush=True)
    while True:
        if big and (pending is None or pending.done()):
            pending = requests[0][0].call_async(big)
        for _ in range(int((time.monotonic() - begun) * rate) - sent):
            sent += 1
            client, request = requests[sent % len(requests)]
            client.call_async(request(sent))
        executor.spin_once(timeout_sec=0.5 / rate)


if __name__ == '__main__':
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
