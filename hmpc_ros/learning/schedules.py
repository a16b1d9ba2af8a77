"""Step sizes alpha_k and trust eta_k over the iterations, and what convergence asks of them.

The paper's theorem holds when theta stays in a convex compact set and

    sum alpha_k = inf        the steps reach anywhere
    sum alpha_k^2 < inf      the noise of the zeroth-order part dies out
    sum eta_k alpha_k < inf  trust in the wrong model fades
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hmpc_ros.plant.declared import parameter


@dataclass(frozen=True)
class StepSize:
    """alpha_k = scale * log(k + 2) / (k + 1)^exponent; the factor log(k + 2) can be left out.

    Raises:
        ValueError: When the scale is not positive or the exponent negative.
    """

    scale: float = parameter(5e-5, 'a in alpha_k = a log(k + 2) / (k + 1)^exponent', low=1e-15)
    exponent: float = parameter(0.75, 'how fast the steps shrink', low=0.0)
    logarithm: bool = parameter(True, 'whether the factor log(k + 2) is there')

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f'the step size must be positive and finite, got {self.scale}')
        if not (math.isfinite(self.exponent) and self.exponent >= 0):
            raise ValueError(f'the step exponent must not be negative, got {self.exponent}')

    def __call__(self, k: int) -> float:
        """Return alpha_k of iteration k = 0, 1, ..."""
        growth = math.log(k + 2) if self.logarithm else 1.0
        return self.scale * growth / (k + 1) ** self.exponent


@dataclass(frozen=True)
class Trust:
    """eta_k = initial / (k + 1)^exponent: the share of the model-based gradient in the update.

    ``Trust(1, 0)`` is the model alone, ``Trust(0)`` the zeroth-order estimate alone,
    ``Trust(1, gamma)`` the paper's hybrid.

    Raises:
        ValueError: When the initial trust is outside 0 ... 1 or the exponent is negative.
    """

    initial: float = parameter(
        1.0, 'eta_0 in eta_k = eta_0 / (k + 1)^exponent, the share of the model-based gradient',
        low=0.0, high=1.0,
    )  # fmt: skip
    exponent: float = parameter(0.5, 'gamma, how fast trust in the model fades', low=0.0)

    def __post_init__(self) -> None:
        if not 0.0 <= self.initial <= 1.0:
            raise ValueError(f'the trust in the model must be within 0 ... 1, got {self.initial}')
        if not (math.isfinite(self.exponent) and self.exponent >= 0):
            raise ValueError(f'the trust exponent must not be negative, got {self.exponent}')

    def __call__(self, k: int) -> float:
        """Return eta_k of iteration k = 0, 1, ..."""
        return self.initial / (k + 1) ** self.exponent


def convergence_warnings(step_size: StepSize, trust: Trust) -> list[str]:
    """Name each condition of the convergence proof that these schedules violate.

    The sums are those of log(k)^m / k^p, which converge exactly when p > 1 (p = 1 diverges with or
    without the logarithm). That theta stays in a compact set is seen to by ``Box``.
    """
    warnings = []
    steps, squares = step_size.exponent, 2 * step_size.exponent
    if steps > 1:
        warnings.append(
            f'sum alpha_k = inf is violated: with step exponent {steps:g} > 1 the steps add up '
            'to a finite length and may stop short of the optimum'
        )
    if squares <= 1:
        warnings.append(
            f'sum alpha_k^2 < inf is violated: with step exponent {steps:g} <= 0.5 the noise of '
            'the zeroth-order estimate does not die out'
        )
    fading = step_size.exponent + trust.exponent
    if trust.initial > 0 and fading <= 1:
        warnings.append(
            f'sum eta_k alpha_k < inf is violated: step exponent {steps:g} + trust exponent '
            f'{trust.exponent:g} = {fading:g} must exceed 1, trust in the model does not fade fast '
            'enough to be sure of convergence'
        )
    return warnings
