"""The tracking MPC's generated acados solver: one call per stage sets everything, one solves."""

import json
import sys
from ctypes import c_int, c_void_p
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np

from hmpc_ros.policy import acados as acados_module
from hmpc_ros.policy.acados import (
    GeneratedSolver,
    acados,
    cached_solver,
    gathered,
    generate,
    vectors,
)
from hmpc_ros.policy.tracking import model

_NAME = 'hmpc_tracking'
NX, NU, NP = model.NX, model.NU, model.NP


@dataclass(frozen=True)
class TrackingSolverOptions:
    """What the generated code depends on."""

    horizon: int = 20  #: stages N
    condensed: int = 20  #: stages of the QP after partial condensing
    qp_tolerance: float = 1e-8  #: of HPIPM's residuals
    qp_max_iterations: int = 50  #: of HPIPM


class TrackingSolver(GeneratedSolver):
    """One real-time iteration about the last iterate, which lies in `iterate`.

    The iterate is one flat array: states (N+1, 14), inputs (N, 4), costates (N, 14) of the
    dynamics' equations (pi_k belongs to x_{k+1}), input multipliers (N, 2, 4) [lower, upper].
    """

    def __init__(self, options: TrackingSolverOptions | None = None) -> None:
        """Load the solver from the cache, or generate and compile it into the cache.

        Raises:
            AcadosMissingError: acados is not installed.
            CodeGenerationError: the code cannot be generated or compiled.
        """
        self.options = options or TrackingSolverOptions()
        super().__init__(_load(self.options), _NAME, NX)
        n = self.options.horizon
        self.shapes = ((n + 1, NX), (n, NU), (n, NX), (n, 2, NU))
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes]).tolist()
        self.parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.parameters = np.zeros((n + 1, NP))
        self._update = getattr(self._solver.shared_lib, f'{_NAME}_acados_update_params')
        self._update.argtypes = [c_void_p, c_int, c_void_p, c_int]
        self._update.restype = c_int
        row = self.parameters.strides[0]
        self._updates = [
            (self._capsule, k, c_void_p(self.parameters.ctypes.data + k * row), NP)
            for k in range(n + 1)
        ]
        self._memory, self._gather = self._locate()

    def _locate(self) -> tuple[np.ndarray, np.ndarray]:
        """Find the iterate in acados' memory (see `AcadosQp` for its layout)."""
        n = self.options.horizon
        pointers = self.outputs()
        ux = vectors(pointers[0], [NU + NX] * n + [NX])
        pi = vectors(pointers[2], [NX] * n)
        lam = vectors(pointers[3], [2 * (NU + NX)] + [2 * NU] * (n - 1))
        base = min(*ux, *pi, *lam)

        def at(address: int, size: int, offset: int = 0) -> np.ndarray:
            first = (address - base) // 8 + offset
            return np.arange(first, first + size)

        indices = [at(ux[k], NX, NU if k < n else 0) for k in range(n + 1)]
        indices += [at(ux[k], NU) for k in range(n)]
        indices += [at(pi[k], NX) for k in range(n)]
        for k in range(n):
            upper = NU + (0 if k else NX)  # all states are bounded at stage 0: x_0 is given
            indices += [at(lam[k], NU), at(lam[k], NU, upper)]
        return gathered(indices, base)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return views of an iterate's parts: states, inputs, costates, input multipliers."""
        parts = zip(self.parts, self.shapes, strict=True)
        return [flat[part].reshape(shape) for part, shape in parts]

    def set_bounds(self, lowest: np.ndarray, highest: np.ndarray) -> None:
        """Set the bounds (4,) on commands of all stages."""
        for name, values in ((b'lbu', lowest), (b'ubu', highest)):
            for k in range(self.options.horizon):
                self.set_constraint(k, name, values)

    def set_iterate(self, states: np.ndarray, inputs: np.ndarray) -> None:
        """Begin the next solve at a plan (N+1, 14), (N, 4) without multipliers."""
        flat = np.zeros(self._gather.size)
        flat[self.parts[0]], flat[self.parts[1]] = states.ravel(), inputs.ravel()
        self._memory[self._gather] = flat

    def iterate(self, x0: np.ndarray) -> tuple[int, int, int, float, np.ndarray]:
        """Do one real-time iteration at x0 (14,) with `parameters` (N+1, NP).

        Returns:
            What `run` does, and the flat iterate.
        """
        for call in self._updates:
            self._update(*call)
        return *self.run(x0), self._memory.take(self._gather)


def _formulate(options: TrackingSolverOptions) -> Any:
    template = acados().template
    x, u, p = ca.SX.sym('x', NX), ca.SX.sym('u', NU), ca.SX.sym('p', NP)
    stage = model.Stage(p)
    ocp = template.AcadosOcp()
    m = template.AcadosModel()
    m.name, m.x, m.u, m.p = _NAME, x, u, p
    m.disc_dyn_expr = model.step(x, u, stage)
    m.cost_y_expr, m.cost_y_expr_e = model.residual(x, u, stage), model.state_residual(x, stage)
    ocp.model = m
    if hasattr(ocp, 'name'):
        ocp.name = _NAME
    ocp.parameter_values = np.zeros(NP)
    ocp.cost.cost_type = ocp.cost.cost_type_e = 'NONLINEAR_LS'
    ocp.cost.W, ocp.cost.W_e = np.eye(model.N_RESIDUAL), np.eye(model.N_STATE_RESIDUAL)
    ocp.cost.yref = np.zeros(model.N_RESIDUAL)
    ocp.cost.yref_e = np.zeros(model.N_STATE_RESIDUAL)
    ocp.constraints.x0 = np.zeros(NX)
    ocp.constraints.idxbu = np.arange(NU)
    ocp.constraints.lbu, ocp.constraints.ubu = -np.ones(NU), np.ones(NU)

    acados().real_time(
        ocp, options.horizon, options.condensed, options.qp_tolerance, options.qp_max_iterations
    )
    return ocp


def _load(options: TrackingSolverOptions) -> Any:
    sources = [Path(str(file)) for file in (__file__, model.__file__, acados_module.__file__)]
    return cached_solver(
        'tracking', lambda: _formulate(options), __name__, asdict(options),
        formulation=[source.read_text(encoding='utf-8') for source in sources],
        options=asdict(options),
    )  # fmt: skip


if __name__ == '__main__':
    generate(_formulate(TrackingSolverOptions(**json.loads(sys.argv[1]))), sys.argv[2])
