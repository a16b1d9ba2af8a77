"""Hybrid-gradient policy optimisation for model predictive control, on ROS 2.

Four rooms, each of which knows only those before it:

* ``plant``: the vehicle's physics and its linear model,
* ``policy``: the acados MPC and its derivative,
* ``learning``: closed-loop gradients, estimators and updates,
* ``ros`` and ``cli``: nodes, messages, commands and plots.
"""

# The one place that holds the version, next to package.xml (catkin_pkg wants it there too);
# setup.py reads this line, test/test_package.py checks that the two agree.
__version__ = '0.1.0'
