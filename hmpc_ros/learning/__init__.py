"""Closed-loop gradients, estimators and updates: how the vehicle tunes its own MPC.

* ``requests``, ``rollout``: how flights are asked for, and flown here without ROS,
* ``objective``: what a flight costs, and the derivative of that,
* ``costate``: the gradient of the flight's cost by the reverse recursion through the closed loop,
* ``estimators``, ``schedules``: the paper's model-based, zeroth-order and hybrid updates,
* ``trust_region``: the default rule, one trust region and one test (``difference``) about a
  ``model`` of the cost, such as
* ``rehearsed_model``: ``rehearsal`` on a surrogate of the plant, with ``forward`` sensitivities and
  the ``composite`` step; what is ``noise`` in flights,
* ``adam``: Adam on any estimate of the gradient,
* ``training``, ``results``: a resumable run that asks for flights, whoever flies them.
"""
