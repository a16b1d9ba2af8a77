"""What is known of a difference of two costs, and the test whether it is negative."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import norm


@dataclass(frozen=True)
class Difference:
    """An estimate of a difference of two costs.

    Attributes:
        value, deviation: Its mean and standard deviation.
        measured: Share of the flights in it, 0 ... 1; the model's is the rest.
    """

    value: float
    deviation: float
    measured: float

    @property
    def probability(self) -> float:
        """That it is negative."""
        if not self.deviation > 0:
            return float(self.value < 0)
        return float(norm.cdf(-self.value / self.deviation))

    def decided(self, level: float) -> bool:
        """Say whether its sign is known but for a probability."""
        return min(self.probability, 1 - self.probability) <= level

    @property
    def hope(self) -> float:
        """Expectation of what is gained where it is negative."""
        if not self.deviation > 0:
            return max(0.0, -self.value)
        t = -self.value / self.deviation
        return float(self.deviation * (norm.pdf(t) + t * norm.cdf(t)))
