"""The installed acados: what differs between its versions, and its C interface.

Two acados are in use, and everything that differs between them is here:

* the official one (``acados_template`` v0.4 and later, built from source), and
* the wheel ``comma-deps-acados`` (acados of mid-2023, import name ``acados.acados_template``).

Nothing is decided by a version number (``acados_template`` does not carry a reliable one): the
Python attributes and the C header of the installed acados are asked.
"""

import contextlib
import ctypes
import inspect
import io
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator
from ctypes import c_char_p, c_double, c_int, c_void_p
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import casadi as ca
import numpy as np

from hmpc_ros.policy.solver_cache import load_or_build

_MISSING = (
    'acados is not installed: either `pip install --no-deps comma-deps-acados==0.2.2.post92` (and '
    'then `pip install --force-reinstall --no-deps casadi`), or build the official one '
    '(https://docs.acados.org/installation), `pip install -e $ACADOS_SOURCE_DIR/interfaces/'
    'acados_template` and export ACADOS_SOURCE_DIR'
)
# acados' libraries have no rpath: loaded in the order of their dependencies, they need no
# LD_LIBRARY_PATH. The optional QP solvers are there when acados was built with them.
_LIBRARIES = (
    'libblasfeo.so', 'libhpipm.so', 'libqpOASES_e.so.3.1', 'libdaqp.so', 'libosqp.so',
    'libacados.so',
)  # fmt: skip


class AcadosMissingError(ImportError):
    """acados cannot be imported; the message says how to get it."""


class _Acados:
    """What differs between the acados in use, resolved once per process."""

    def __init__(self) -> None:
        self.template, distribution = self._import()
        # acados announces itself with print(), and guesses its folder when it was not told.
        with quiet():
            utilities = import_module(f'{self.template.__name__}.utils')
            self.root = Path(utilities.get_acados_path())
        os.environ.setdefault('ACADOS_SOURCE_DIR', str(self.root))
        header = self.root / 'include' / 'acados_c' / 'ocp_nlp_interface.h'
        if not header.exists():
            raise AcadosMissingError(
                f'{distribution} is installed, but {header} is missing: build acados with `make '
                'install` and export ACADOS_SOURCE_DIR, the folder it was built in'
            )
        self._header = header.read_text()
        self._preload()
        self.version = f'{distribution} (version unknown)'
        with contextlib.suppress(metadata.PackageNotFoundError):
            self.version = f'{distribution} {metadata.version(distribution)}'

    @staticmethod
    def _import() -> tuple[ModuleType, str]:
        if find_spec('acados_template'):
            with quiet():
                return import_module('acados_template'), 'acados_template'
        # A folder named acados in the working directory can be imported too; it has no DIR.
        wheel = import_module('acados') if find_spec('acados') else None
        if wheel is None or not hasattr(wheel, 'DIR'):
            raise AcadosMissingError(_MISSING)
        os.environ['ACADOS_SOURCE_DIR'] = wheel.DIR
        os.environ['TERA_PATH'] = wheel.TERA_PATH
        os.environ['ACADOS_PYTHON_INTERFACE_PATH'] = wheel.TEMPLATE_DIR
        with quiet():
            return import_module('acados.acados_template'), 'comma-deps-acados'

    def _preload(self) -> None:
        for name in _LIBRARIES:
            library = self.root / 'lib' / name
            with contextlib.suppress(OSError):  # what is needed and missing shows when it is used
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)

    @property
    def cache_tag(self) -> str:
        """Tell builds of acados apart: a rebuilt libacados must not meet old generated code."""
        template = Path(str(self.template.__file__)).parent
        files = (
            self.root / 'lib' / 'libacados.so',
            template / 'acados_ocp_solver.py',
            template / 'c_templates_tera' / 'acados_solver.in.c',
        )
        stats = [(str(file), file.stat()) for file in files if file.exists()]
        stamps = [f'{file} {stat.st_mtime_ns} {stat.st_size}' for file, stat in stats]
        return '\n'.join([self.version, *stamps])

    def leading_types(self, function: str) -> list[str]:
        """Return the types of the acados structures that a C function takes first, in order.

        Their number changed between versions, and ctypes would not notice.
        """
        declaration = re.search(rf'\b{function}\(([^)]*)\)', self._header)
        if declaration is None:
            raise RuntimeError(f'this acados has no C function {function}: is it too new?')
        return re.findall(r'(ocp_nlp_\w+) *\*', declaration[1])

    def load(self, ocp: Any, folder: Path, *, build: bool) -> Any:
        """Return an ``AcadosOcpSolver`` in a folder, generating and compiling it if ``build``."""
        solver_class = self.template.AcadosOcpSolver
        options: dict[str, Any] = {'generate': build, 'build': build, 'verbose': False}
        if 'check_reuse_possible' in inspect.signature(solver_class.__init__).parameters:
            options['check_reuse_possible'] = False  # the cache key has already told
        # Called so since v0.5.5, in v0.5.4, and before.
        paths = getattr(ocp, 'code_gen_options', getattr(ocp, 'code_gen_opts', ocp))
        paths.code_export_directory = str(folder)
        json_file = str(folder / 'ocp.json')
        if paths is ocp:
            options['json_file'] = json_file
        else:
            paths.json_file = json_file
        return solver_class(ocp, **options)

    def real_time(
        self, ocp: Any, horizon: int, condensed: int, qp_tolerance: float, qp_max_iterations: int
    ) -> None:
        """Let a problem with discrete dynamics be solved by real-time iterations with HPIPM.

        Args:
            ocp: an ``AcadosOcp``.
            horizon: stages N.
            condensed: stages of the QP after partial condensing; with N nothing is condensed.
            qp_tolerance: of HPIPM's residuals.
            qp_max_iterations: of HPIPM.
        """
        solver = ocp.solver_options
        if hasattr(solver, 'N_horizon'):
            solver.N_horizon = horizon
        else:
            ocp.dims.N = horizon
        solver.nlp_solver_type = 'SQP_RTI'
        solver.integrator_type = 'DISCRETE'
        solver.hessian_approx = 'GAUSS_NEWTON'
        solver.qp_solver = 'PARTIAL_CONDENSING_HPIPM'
        solver.qp_solver_cond_N = condensed
        solver.tf = float(horizon)  # acados scales stage costs by the step, which is 1
        solver.qp_solver_iter_max = qp_max_iterations
        for kind in ('stat', 'eq', 'ineq', 'comp'):
            setattr(solver, f'qp_solver_tol_{kind}', qp_tolerance)


_loaded: _Acados | None = None


def acados() -> _Acados:
    """Return the installed acados.

    Raises:
        AcadosMissingError: none is installed.
    """
    global _loaded
    if _loaded is None:
        _loaded = _Acados()
    return _loaded


def cached_solver(
    name: str, formulate: Callable[[], Any], module: str, request: Any, **ingredients: Any
) -> Any:
    """Return an ``AcadosOcpSolver``, generated and compiled if this machine has not done so yet.

    Args:
        name: as for `load_or_build`.
        formulate: makes the ``AcadosOcp``.
        module: as for `load_or_build`; calls `generate`.
        request: as for `load_or_build`.
        ingredients: what the code depends on beside the versions of acados and CasADi.

    Raises:
        AcadosMissingError: none is installed.
        CodeGenerationError: see `load_or_build`.
    """
    ingredients |= {
        'acados': acados().cache_tag,
        'casadi': ca.__version__,
        'machine': platform.machine(),
    }

    def load(code: Path) -> Any:
        with quiet():
            return acados().load(formulate(), code, build=False)

    return load_or_build(name, ingredients, module, request, load)


def generate(ocp: Any, folder: str) -> None:
    """Generate and compile in this process, a child of `load_or_build`."""
    Path(folder).mkdir()
    acados().load(ocp, Path(folder), build=True)


def c_function(solver: Any, name: str, *types: Any) -> tuple[Any, tuple[c_void_p, ...]]:
    """Return a C function of acados and its first arguments, the structures it works on."""
    structures = acados().leading_types(name)
    function = getattr(solver.shared_lib, name)
    function.argtypes = [c_void_p] * len(structures) + list(types)
    # ocp_nlp_config is the solver's attribute nlp_config, and so on.
    attributes = [structure.removeprefix('ocp_') for structure in structures]
    return function, tuple(c_void_p(getattr(solver, name)) for name in attributes)


# Sizes of struct blasfeo_dvec {double *mem; double *pa; int m; [int pm;] int memsize;}: BLASFEO
# knows the packed size pm in its panel-major builds only.
_DVEC_SIZES = (32, 24)


def vectors(first: int | None, lengths: list[int]) -> list[int]:
    """Return where the data of each in an array of ``blasfeo_dvec`` with known lengths lies."""
    for size in _DVEC_SIZES:
        vectors = [(first or 0) + size * k for k in range(len(lengths))]
        found = (c_int.from_address(vector + 16).value for vector in vectors)
        # Stops at the first that does not fit, before it reads foreign memory.
        if first and all(m == length for m, length in zip(found, lengths, strict=True)):
            return [c_void_p.from_address(vector + 8).value or 0 for vector in vectors]
    raise RuntimeError('the solution of this acados lies in memory in a way that is not known')


class GeneratedSolver:
    """A generated solver of real-time iterations, called past acados' Python interface.

    What is called at every solve has fixed memory and fixed arguments.

    Args:
        solver: the ``AcadosOcpSolver``.
        name: of its model, with which the generated C functions begin.
        nx: states.
    """

    def __init__(self, solver: Any, name: str, nx: int) -> None:
        self._solver = solver
        self._capsule = c_void_p(solver.capsule)
        self._solve = getattr(solver.shared_lib, f'{name}_acados_solve')
        self._solve.argtypes, self._solve.restype = [c_void_p], c_int
        self._set, self._set_head = c_function(
            solver, 'ocp_nlp_constraints_model_set', c_int, c_char_p, c_void_p
        )
        self._get, head = c_function(solver, 'ocp_nlp_get', c_char_p, c_void_p)
        self._time, self._statistics = c_double(0.0), (c_double * 64)()
        self._time_call = (*head, b'time_tot', ctypes.addressof(self._time))
        self._statistics_call = (*head, b'statistics', ctypes.addressof(self._statistics))
        self._x0 = np.zeros(nx)
        x0 = c_void_p(self._x0.ctypes.data)
        self._x0_calls = [(*self._set_head, 0, bound, x0) for bound in (b'lbx', b'ubx')]

    def set_constraint(self, stage: int, field: bytes, values: np.ndarray) -> None:
        """Set a bound of a stage."""
        values = np.ascontiguousarray(values, dtype=float)
        self._set(*self._set_head, stage, field, values.ctypes.data)

    def outputs(self) -> Any:
        """Return the pointers of ``ocp_nlp_out``, in all versions ux, z, pi, lam.

        Each (ocp_nlp_common.h) is to one ``blasfeo_dvec`` a stage, see `vectors`, and all the data
        lies in one allocation.
        """
        return ctypes.cast(self._solver.nlp_out, ctypes.POINTER(c_void_p))

    def run(self, x0: np.ndarray) -> tuple[int, int, int, float]:
        """Do one real-time iteration at x0 (nx,).

        Returns:
            acados' status (0: no error seen, which is no proof of a solution), HPIPM's own status
            (0: converged) and iterations, and the time acados measured [s].
        """
        self._x0[:] = x0
        lower, upper = self._x0_calls
        self._set(*lower)
        self._set(*upper)
        status = self._solve(self._capsule)
        self._get(*self._statistics_call)
        self._get(*self._time_call)
        # SQP_RTI logs a table with the rows (iteration, QP status, QP iterations) and two columns,
        # before and after its one iteration.
        qp_status, iterations = int(self._statistics[3]), int(self._statistics[5])
        return status, qp_status, iterations, self._time.value

    def reset(self) -> None:
        """Forget the last solution and HPIPM's memory (needed after NaN)."""
        self._solver.reset()


def gathered(indices: list[np.ndarray], base: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a view of memory from an address on, and where in it numbers lie, all in one array."""
    gather = np.concatenate(indices)
    memory = (c_double * (int(gather.max()) + 1)).from_address(base)
    return np.ctypeslib.as_array(memory), gather


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep acados' Python announcements and deprecations off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
