"""Closed curves to fly: circles and eights."""

import numpy as np

from hmpc_ros.plant.reference.values import finite


class Fourier:
    """c(phi) = centre + sum over k of a_k sin(k phi) + b_k cos(k phi), for k = 1, 2.

    Args:
        centre: (3,) [m].
        terms: the rows a_1, b_1, a_2, b_2, (4, 3) [m].
    """

    def __init__(self, centre: np.ndarray, terms: np.ndarray) -> None:
        # (sin, cos)' = k (cos, -sin): each derivative turns the pairs of coefficients.
        orders = [np.asarray(terms, dtype=float)]
        for _ in range(3):
            a1, b1, a2, b2 = orders[-1]
            orders.append(np.array([-b1, a1, -2 * b2, 2 * a2]))
        self._terms = np.concatenate(orders, axis=1)  # (4, 12): all orders in one product
        self._centre = np.concatenate([np.asarray(centre, dtype=float), np.zeros(9)])

    def __call__(self, phi: np.ndarray) -> np.ndarray:
        """Return the point and its first three derivatives, (n, 4, 3), at phases (n,)."""
        sin, cos = np.sin(phi), np.cos(phi)
        basis = np.empty((len(phi), 4))
        basis[:, 0], basis[:, 1] = sin, cos
        basis[:, 2], basis[:, 3] = 2.0 * sin * cos, 1.0 - 2.0 * sin * sin
        return (basis @ self._terms + self._centre).reshape(-1, 4, 3)


def circle(centre: np.ndarray, radius: float, tilt: float = 0.0) -> Fourier:
    """Return a circle, counter-clockwise from its point in +x, its plane tilted about the x axis.

    Args:
        centre: (3,) [m].
        radius: [m].
        tilt: angle [rad] between the circle's plane and the horizontal.
    """
    terms = np.zeros((4, 3))
    terms[1, 0] = radius
    terms[0, 1:] = radius * np.cos(tilt), radius * np.sin(tilt)
    return Fourier(centre, terms)


def gerono(centre: np.ndarray, size: float) -> Fourier:
    """Return the lemniscate of Gerono, x = a cos(phi), y = a sin(phi) cos(phi), from its right tip.

    Args:
        centre: (3,) [m].
        size: half of its width, a [m].
    """
    terms = np.zeros((4, 3))
    terms[1, 0], terms[2, 1] = size, 0.5 * size
    return Fourier(centre, terms)


def lissajous(centre: np.ndarray, size: np.ndarray) -> Fourier:
    """Return the 1:2 Lissajous figure x = a sin(phi), y = b sin(2 phi), from its crossing.

    Args:
        centre: (3,) [m].
        size: half of its width and of its height, (a, b) [m].
    """
    a, b = finite('the size of the figure-eight', size, (2,))
    terms = np.zeros((4, 3))
    terms[0, 0], terms[2, 1] = a, b
    return Fourier(centre, terms)
