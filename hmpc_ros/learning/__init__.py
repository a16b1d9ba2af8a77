"""Closed-loop gradients, estimators and updates: how the vehicle tunes its own MPC.

* ``requests``, ``rollout``: how flights are asked for, and flown here without ROS,
* ``objective``: what a flight costs, and the derivative of that,
* ``costate``: the gradient of the flight's cost by the reverse recursion through the closed loop,
* ``estimators``, ``schedules``: the paper's model-based, zeroth-order and hybrid updates,
* ``few_flights``: the default rule, with ``forward`` sensitivities, the ``composite`` step, and
  ``rehearsal`` on a surrogate of the plant; what is ``noise`` in flights,
* ``trust_region``: the same parts under one trust region and one test,
* ``adam``: Adam on any estimate of the gradient,
* ``training``, ``results``: a resumable run that asks for flights, whoever flies them.
"""
