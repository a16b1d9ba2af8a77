"""The vehicle's physics, its linear models and the simulated real vehicle.

Nothing here knows of the MPC, of learning or of ROS.
"""
