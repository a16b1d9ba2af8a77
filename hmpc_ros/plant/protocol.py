"""What learning asks of whoever claims to know how a plant answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


# Whatever a vehicle's state is, its errors begin with position [m], velocity [m/s], attitude [rad]
# (roll, pitch, yaw, or a rotation vector) and body rates [rad/s].
POSITION_ERROR, TILT_ERROR = slice(0, 3), slice(6, 8)


class PlantJacobians(Protocol):
    """A linear model, the vehicle's own equations, a surrogate."""

    def jacobians_along(self, states: Array, inputs: Array) -> tuple[Array, Array]:
        """Return A (T, nd, nd) and B (T, nd, nu) at deviations (T, nd) and inputs (T, nu)."""
        ...


class Predictor(Protocol):
    """One step of a surrogate, in deviations."""

    def begin(self) -> None:
        """Begin a flight: the inputs before it were hover."""
        ...

    def step(self, x: Array, u: Array) -> Array:
        """Return the next deviation (nd,), and remember the input."""
        ...


class Prediction(Protocol):
    """How well a flight was predicted before it was learned from."""

    @property
    def explained(self) -> float:
        """Share of the prior model's error that the surrogate explains."""
        ...


class PlantModel(PlantJacobians, Protocol):
    """A model of the plant that learns from flights, in deviations."""

    @property
    def instrumented(self) -> bool:
        """Whether it learned from flights together with what they should have been."""
        ...

    def add(
        self, states: Array, inputs: Array, expected: tuple[Array, Array] | None = None
    ) -> Prediction | None:
        """Predict a flight (T+1, nd), (T, nu), then learn from it; None: not predicted."""
        ...

    def residuals(self, states: Array, inputs: Array) -> Array:
        """Return the one-step errors of a flight, (T, nd)."""
        ...

    def predictor(self) -> Predictor:
        """Return its one-step prediction, as it is now."""
        ...

    def augmented_jacobians_along(self, states: Array, inputs: Array) -> tuple[Array, Array, Array]:
        """Return A, B, and of past inputs L (T, lags, nd, nu)."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Return all that it has learned, to be kept."""
        ...

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over what `arrays` returned."""
        ...
