"""The nonlinear tracking MPC: thrust and body rates along any reference, at 100 Hz.

`parameters` names what can be tuned, `model` holds the formulas, `solver` the generated acados
solver, `observer` the estimates of force and thrust gain, `policy` puts them together,
`derivative` differentiates the policy along a flight, `closed_loop` what it remembers between
answers; their formulas are compiled by `derivative_code`.
"""
