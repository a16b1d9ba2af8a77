"""The QP of the linear MPC as a generated acados solver: code generation, data, solution.

The generated QP is the same for every vehicle: model, weights and bounds are run-time data, so
nothing is ever generated again for a new vehicle, goal, limit or weight.
"""

import json
import sys
from ctypes import c_char_p, c_int, c_void_p
from dataclasses import asdict, dataclass
from typing import Any

import casadi as ca
import numpy as np

from hmpc_ros.policy.acados import (
    GeneratedSolver,
    acados,
    c_function,
    cached_solver,
    gathered,
    generate,
    vectors,
)

# The name of the generated C functions.
_NAME = 'hmpc_qp'
# Changes to the generated code that the other ingredients of the cache key do not show.
_FORMULATION_VERSION = 2


@dataclass(frozen=True)
class QpDimensions:
    """Structure of the QP: what the generated code depends on, besides the acados version.

    Attributes:
        first_bounded, n_bounded: the states with a soft bound, a contiguous range.
    """

    nx: int  #: states
    nu: int  #: inputs
    horizon: int  #: stages N
    first_bounded: int
    n_bounded: int


@dataclass(frozen=True)
class SolverOptions:
    """Options of acados and HPIPM: real-time iterations, partial condensing that condenses nothing.

    HPIPM's modes, warm starts and condensing change nothing beyond noise here; qpOASES is 100 times
    slower and sometimes wrong.
    """

    qp_tolerance: float = 1e-8  #: of HPIPM's residuals
    qp_max_iterations: int = 50  #: of HPIPM
    hpipm_mode: str = 'BALANCE'  #: its choice between speed and robustness
    #: barrier parameter that HPIPM starts with. About as large as the multipliers, whose size the
    #: slacks' cost sets: where many bounds act, that takes a fifth fewer iterations than HPIPM's
    #: own 1, and elsewhere about as many
    qp_mu0: float = 15.0


@dataclass(frozen=True)
class SolutionLayout:
    """Where each part of a primal-dual solution lies in the flat array of `AcadosQp.solve`.

    In this order, with N the horizon and nb the number of bounded states:
    states (N+1, nx), inputs (N, nu), slacks (N, 2, nb), input multipliers (N, 2, nu), state
    multipliers (N, 2, nb), slack multipliers (N, 2, nb); [lower, upper] in the axis of length 2,
    and states' bounds from stage 1 to N.
    """

    shapes: tuple[tuple[int, ...], ...]
    slices: tuple[slice, ...]
    size: int

    @classmethod
    def of(cls, d: QpDimensions) -> 'SolutionLayout':
        """Lay out the solutions of a QP of these dimensions."""
        n, nb = d.horizon, d.n_bounded
        shapes = ((n + 1, d.nx), (n, d.nu), (n, 2, nb), (n, 2, d.nu), (n, 2, nb), (n, 2, nb))
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
        slices = tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))
        return cls(shapes, slices, ends[-1])

    def split(self, flat: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return views of the parts of flat (..., size), each of shape (..., *shape)."""
        lead = flat.shape[:-1]
        return tuple(
            flat[..., part].reshape(*lead, *shape)
            for part, shape in zip(self.slices, self.shapes, strict=True)
        )


class AcadosQp(GeneratedSolver):
    """The generated QP solver with its memory: set data by stage, solve, read the solution.

    min   sum_{k<N} [x u]' W_k [x u] / 2  +  x_N' W_N x_N / 2  +  slack penalties
    s.t.  x_0 given,  x_{k+1} = A x_k + B u_k + c,  lbu <= u <= ubu,  lbx - sl <= x <= ubx + su
    """

    def __init__(self, dimensions: QpDimensions, options: SolverOptions | None = None) -> None:
        """Load the solver from the cache, or generate and compile it (3-6 s) into the cache.

        Raises:
            AcadosMissingError: acados is not installed.
            CodeGenerationError: the code cannot be generated or compiled.
        """
        self.dimensions = dimensions
        self.options = options or SolverOptions()
        solver = _load_or_build(dimensions, self.options)
        super().__init__(solver, _NAME, dimensions.nx)
        # When it runs, as not every version has it in its templates.
        solver.options_set('qp_mu0', float(self.options.qp_mu0))
        self._set_cost, self._cost_head = c_function(
            solver, 'ocp_nlp_cost_model_set', c_int, c_char_p, c_void_p
        )
        self._solution_memory, self._gather = self._locate_solution()

    def _locate_solution(self) -> tuple[np.ndarray, np.ndarray]:
        """Find the solution in acados' memory: a view, and where in it each number lies.

        Per stage, ux holds [u x sl su] and lam [lbu lbx ubu ubx sl su]. One ``take`` reads
        everything in 3 us, where the C getter needs 39 us and the Python one 510 us.
        """
        d = self.dimensions
        n, nu, nx, nb = d.horizon, d.nu, d.nx, d.n_bounded
        pointers = self.outputs()
        # Bounds at stage 0 are those of the inputs and of all states: x_0 is given.
        ux = vectors(pointers[0], [nu + nx, *[nu + nx + 2 * nb] * (n - 1), nx + 2 * nb])
        lam = vectors(pointers[3], [2 * (nu + nx), *[2 * (nu + 2 * nb)] * (n - 1), 4 * nb])
        base = min(*ux, *lam)

        def at(address: int, *shape: int, offset: int = 0) -> np.ndarray:
            first = (address - base) // 8 + offset
            return np.arange(first, first + int(np.prod(shape)))

        inputs = [nu] * n + [0]  # the last stage has no input
        indices = [at(ux[k], nx, offset=inputs[k]) for k in range(n + 1)]
        indices += [at(ux[k], nu) for k in range(n)]
        indices += [at(ux[k], 2, nb, offset=inputs[k] + nx) for k in range(1, n + 1)]
        for k in range(n):
            upper = nu + (nb if k else nx)  # all states are bounded at stage 0: x_0 is given
            indices += [at(lam[k], nu), at(lam[k], nu, offset=upper)]
        for k in range(1, n + 1):
            lower, upper = inputs[k], 2 * inputs[k] + nb
            indices += [at(lam[k], nb, offset=lower), at(lam[k], nb, offset=upper)]
        for k in range(1, n + 1):
            indices += [at(lam[k], 2, nb, offset=2 * (inputs[k] + nb))]
        return gathered(indices, base)

    # --- data ------------------------------------------------------------------------------------

    def set_model(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        """Set the dynamics of all stages: A (nx, nx), B (nx, nu), c (nx,)."""
        parameters = np.concatenate((a.ravel(order='F'), b.ravel(order='F'), c))
        for stage in range(self.dimensions.horizon):
            self._solver.set(stage, 'p', parameters)

    def set_weights(
        self,
        stage_weight: np.ndarray,
        terminal_weight: np.ndarray,
        slack_linear: np.ndarray,
        slack_quadratic: np.ndarray,
    ) -> None:
        """Set W (nx + nu, nx + nu) of the stages and W_N (nx, nx), in acados' 1/2 convention.

        Those of the slacks, z (nb,) and Z (nb,), alike: z s + Z s^2 / 2, on either side.
        """
        stage = np.ascontiguousarray(stage_weight)
        terminal = np.ascontiguousarray(terminal_weight)
        n = self.dimensions.horizon
        for k in range(n + 1):
            weight = stage if k < n else terminal
            self._set_cost(*self._cost_head, k, b'W', weight.ctypes.data)
        z, Z = (np.ascontiguousarray(each, dtype=float) for each in (slack_linear, slack_quadratic))
        for k in range(1, n + 1):
            for name, values in ((b'zl', z), (b'zu', z), (b'Zl', Z), (b'Zu', Z)):
                self._set_cost(*self._cost_head, k, name, values.ctypes.data)

    def set_bounds(self, u_min: np.ndarray, u_max: np.ndarray, x_max: np.ndarray) -> None:
        """Set the hard bounds on inputs (nu,) and the soft symmetric ones on states (nb,)."""
        n = self.dimensions.horizon
        x_min = -x_max
        for k in range(n):
            self.set_constraint(k, b'lbu', u_min)
            self.set_constraint(k, b'ubu', u_max)
        for k in range(1, n + 1):
            self.set_constraint(k, b'lbx', x_min)
            self.set_constraint(k, b'ubx', x_max)

    # --- solving ---------------------------------------------------------------------------------

    def solve(self, x0: np.ndarray) -> tuple[int, int, int, float, np.ndarray]:
        """Solve from the initial state x0 (nx,).

        The answer depends on x0 and the data alone, to the last bit, and not on what was solved
        before: a flight over ROS and the same flight offline, or the same flight twice, differ in
        what came before them. HPIPM starts cold anyway; it even needs fewer iterations when the
        QP is not posed about the last solution.

        Returns:
            What `run` does, and a copy of the primal-dual solution in the order of
            `SolutionLayout`.
        """
        self._solution_memory[self._gather] = 0.0
        return *self.run(x0), self._solution_memory.take(self._gather)


def _formulate(dimensions: QpDimensions, options: SolverOptions) -> Any:
    """Write the QP as an acados OCP whose model, weights and bounds are placeholders."""
    d, template = dimensions, acados().template
    x, u = ca.SX.sym('x', d.nx), ca.SX.sym('u', d.nu)
    a, b = ca.SX.sym('A', d.nx, d.nx), ca.SX.sym('B', d.nx, d.nu)
    c = ca.SX.sym('c', d.nx)

    model = template.AcadosModel()
    model.name = _NAME
    model.x, model.u = x, u
    model.p = ca.vertcat(ca.vec(a), ca.vec(b), c)
    model.disc_dyn_expr = a @ x + b @ u + c

    ocp = template.AcadosOcp()
    ocp.model = model
    if hasattr(ocp, 'name'):
        ocp.name = _NAME
    ocp.parameter_values = np.zeros(model.p.shape[0])

    ocp.cost.cost_type = ocp.cost.cost_type_e = 'LINEAR_LS'
    ocp.cost.Vx = np.vstack((np.eye(d.nx), np.zeros((d.nu, d.nx))))
    ocp.cost.Vu = np.vstack((np.zeros((d.nx, d.nu)), np.eye(d.nu)))
    ocp.cost.Vx_e = np.eye(d.nx)
    ocp.cost.W, ocp.cost.W_e = np.eye(d.nx + d.nu), np.eye(d.nx)
    ocp.cost.yref, ocp.cost.yref_e = np.zeros(d.nx + d.nu), np.zeros(d.nx)

    bounded = np.arange(d.first_bounded, d.first_bounded + d.n_bounded)
    constraints = ocp.constraints
    constraints.x0 = np.zeros(d.nx)
    constraints.idxbu = np.arange(d.nu)
    constraints.lbu, constraints.ubu = -np.ones(d.nu), np.ones(d.nu)
    constraints.idxbx = constraints.idxbx_e = bounded
    constraints.lbx = constraints.lbx_e = -np.ones(d.n_bounded)
    constraints.ubx = constraints.ubx_e = np.ones(d.n_bounded)
    constraints.idxsbx = constraints.idxsbx_e = np.arange(d.n_bounded)
    for suffix in ('', '_e'):
        for name in ('Zl', 'Zu', 'zl', 'zu'):
            setattr(ocp.cost, f'{name}{suffix}', np.ones(d.n_bounded))

    acados().real_time(ocp, d.horizon, d.horizon, options.qp_tolerance, options.qp_max_iterations)
    ocp.solver_options.hpipm_mode = options.hpipm_mode
    return ocp


def _load_or_build(dimensions: QpDimensions, options: SolverOptions) -> Any:
    """Load the solver of these dimensions and options, generated and compiled if need be."""
    asked = {'dimensions': asdict(dimensions), 'options': asdict(options)}
    return cached_solver(
        'qp', lambda: _formulate(dimensions, options), __name__, asked,
        **asked, formulation=_FORMULATION_VERSION,
    )  # fmt: skip


if __name__ == '__main__':
    asked = json.loads(sys.argv[1])
    generate(
        _formulate(QpDimensions(**asked['dimensions']), SolverOptions(**asked['options'])),
        sys.argv[2],
    )
