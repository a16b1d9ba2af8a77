"""Hybrid-gradient policy optimisation for model predictive control, on ROS 2.

Rooms, each of which knows only those before it:

* ``plant``: vehicles, references, linear models and surrogates,
* ``policy``: the MPCs and their derivatives,
* ``learning``: flights, closed-loop gradients, estimators and update rules,
* ``configuration``: every parameter, and from values to objects,
* ``ros``: nodes and messages; nothing before it imports rclpy,
* ``figures`` and ``studies``: pictures, and what the commands compute,
* ``cli``: the command line.
"""

# The one place that holds the version, next to package.xml (catkin_pkg wants it there too);
# setup.py reads this line, test/test_package.py checks that the two agree.
__version__ = '0.1.0'
