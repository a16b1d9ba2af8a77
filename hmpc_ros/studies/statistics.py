"""What several runs tell: intervals, paired tests, and the bound that a biased gradient keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

RESAMPLES = 2000
MOST = 1e12  # stands for infinity, where it must not be subtracted from itself


def or_none(value: float) -> float | None:
    """Return a number for JSON, None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bootstrap interval (percentiles, 95 %) of the median; its ends may be infinite.

    Raises:
        ValueError: there is no value.
    """
    if not len(values):
        raise ValueError('an interval needs a value')
    clipped = np.minimum(values, MOST)
    if np.ptp(clipped) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (clipped,), np.median, n_resamples=RESAMPLES, method='percentile',
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    low, high = (float(end) if end < MOST / 10 else np.inf for end in (found.low, found.high))
    return low, high


def paired(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the p-value of Wilcoxon's signed-rank test that pairs differ in neither direction.

    Pairs that are the same count half for either side; infinity is more than any number.
    """
    differences = np.subtract(*(np.minimum(each, MOST) for each in (first, second)))
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method='zsplit').pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values of several tests, adjusted so that all errors together are bounded (Holm)."""
    order = np.argsort(p, kind='stable')
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(
        1.0, np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    )
    return adjusted.tolist()


def bias_bound(lengths: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Return m and zeta of the tightest bound |error|^2 <= m |g|^2 + zeta^2 at some points.

    Of all that hold at every point, the one with the least sum of what it has to spare; relative
    to the largest numbers, so that units do not matter. ``lengths`` are |g|, ``errors`` |g_m - g|.
    """
    g, error = np.square(lengths), np.square(errors)
    if not (len(g) and error.max() > 0 and g.max() > 0):
        return 0.0, float(np.sqrt(error.max(initial=0.0)))
    x, y = g / g.max(), error / error.max()
    found = optimize.linprog(
        [x.sum(), len(x)], A_ub=-np.column_stack((x, np.ones_like(x))), b_ub=-y
    ).x
    m, square = found * error.max() / np.array([g.max(), 1.0])
    return float(m), float(np.sqrt(square))
