"""The reference experiment's parts, small enough for unit tests to build them in one line."""

from dataclasses import replace

import numpy as np

from hmpc_ros.configuration.files import load
from hmpc_ros.configuration.learner import objective
from hmpc_ros.learning.costate import FlightGradient
from hmpc_ros.learning.rollout import OfflineFlyer, Task
from hmpc_ros.plant.quadcopter import Quadcopter
from hmpc_ros.plant.vehicle import Imperfections, Vehicle
from hmpc_ros.policy.linear.flying import Rollout, rollout
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.unconstrained import OfflineMpc
from hmpc_ros.policy.linear.weights import Weights, space


class ReferenceFlight:
    """The vehicle, its MPC with the hover linearisation, the goal and the objective."""

    def __init__(self, shortcut=True, steps=200, goal=None, options=None, **imperfections):
        self.quadcopter = Quadcopter()
        self.model = self.quadcopter.linearise()
        self.limits = Limits()
        self.objective = objective(load()['learner'], self.limits)
        self.weights = Weights.for_model(
            self.model,
            np.sqrt(self.objective.state_weights),
            np.sqrt(self.objective.input_weights),
        )
        self.mpc = OfflineMpc(Mpc(self.model, self.limits, self.weights, options=options), shortcut)
        self.start = replace(self.mpc.parameters, space=space())
        self.goal = goal or Goal((-6.0, -3.5, 0.0))
        self.vehicle = Vehicle(self.quadcopter, Imperfections(**imperfections))
        self.x0 = np.zeros(12)
        self.steps = steps

    @property
    def flyer(self):
        fly = Rollout(self.vehicle, self.mpc, self.steps)
        return OfflineFlyer(self.mpc, fly, (Task(self.goal, tuple(self.x0)),))

    def gradient(self, plant):
        return FlightGradient(self.mpc, plant, self.objective)

    def fly(self, theta=None, number=0):
        self.mpc.use(self.start if theta is None else self.start.with_theta(theta))
        return rollout(self.vehicle, self.mpc, self.goal, self.x0, self.steps, number)
