"""The simulator node, hurt on purpose; started instead of it by the fault tests.

HMPC_TEST_HURT=wrong_number:3   begins other flights than the learner wants, from that number on
HMPC_TEST_HURT=refuses:3        the same, and refuses to be told the right number
"""

import os

from rcl_interfaces.msg import SetParametersResult

from hmpc_ros.ros.simulator_node import Simulator
from hmpc_ros.ros.spinning import run

KIND, _, NUMBER = os.environ['HMPC_TEST_HURT'].partition(':')


class HurtSimulator(Simulator):
    def __init__(self):
        super().__init__()
        if KIND == 'refuses':
            self.add_on_set_parameters_callback(self.refuse)

    def refuse(self, parameters):
        told = any(p.name == 'next_flight' and p.value >= int(NUMBER) for p in parameters)
        return SetParametersResult(successful=not told, reason='not today')

    def _on_reset(self, request, response):
        response = super()._on_reset(request, response)
        number = int(response.message.split()[1])
        if number >= int(NUMBER):
            wrong = number % 1000 + 1000
            response.message = response.message.replace(f'flight {number}', f'flight {wrong}')
        return response


if __name__ == '__main__':
    raise SystemExit(run(HurtSimulator))
