"""What real autopilots need, without ROS: frames, thrust, clocks, take-over, protocols."""
