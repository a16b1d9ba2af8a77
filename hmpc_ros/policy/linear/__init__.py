"""The linear MPC: one QP a step about hover at a goal (mpc), and its derivative (sensitivity)."""
