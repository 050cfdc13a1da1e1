"""The proved error of float64 sums over states, as arithmetic on per-query scalars (torch tensors).

Notation: u = 2^-53; a an anchor among the states, t = y_n - a, R = max |t|, g = a - h; r the reference state.

1. Energies by products, H~_n - H~_a = |t|^2/2 + t.g, err by at most (D + 2) u R (R/2 + |g|), all about the same anchor
   (Higham 2002, section 3.1, and Cauchy-Schwarz). `product_error` is beta times that.
2. Energies by differences, H~_n - H~_r = sum_d s (s/2 + k) with s = y_n - y_r and k = y_r - h, err by at most
   (D + 4) u |s| (|s|/2 + |k|). States whose weight is above e^-T of the largest satisfy
   beta H~_n <= beta H~_r + T + spread of log phi, hence |s| <= sqrt(2 H~_n) + |k|; and always |s| <= 2 R. A change of
   the reference state during a pass adds one more such energy, hence `changes`.
3. Logit errors of at most e change the mean by at most (exp(2 e) - 1)/2 sum w |y - m|, and sum w |y - m| <= rms force.
4. States below e^-T contribute at most 2 N e^-T times the diameter 2 R.
5. Summing N terms w (y - o) adds at most (N + 8) u sum w |y - o|: at most rms force + |k| about the reference state,
   R about the anchor.
"""

UNIT = 2.0**-53
CUTOFF = 60.0  # T: e^-60 = 9e-27


def product_error(dimension, radius, beta, distance):  # type: ignore[no-untyped-def]
    """Of a logit whose energy is a product about the anchor at `distance` |g| from the field."""
    return beta * ((dimension + 2) * UNIT * radius * (radius / 2 + distance))


def difference_error(dimension, radius, spread, beta, energy_min, changes):  # type: ignore[no-untyped-def]
    """Of a logit that matters whose energy is a sum of differences."""
    distance = (2 * energy_min) ** 0.5
    reach = ((2 * (energy_min + (CUTOFF + spread) / beta)) ** 0.5 + distance).clip(0, 2 * radius)
    return (1 + changes) * beta * ((dimension + 4) * UNIT * reach * (reach / 2 + distance))


def force_error(size, radius, spread, logit_error, origin, energy_min, excess):  # type: ignore[no-untyped-def]
    """|force error| / rms force of (B,) queries; `origin` bounds sum w |y - o| for the origin o of the differences."""
    rms = (2 * (energy_min + excess)) ** 0.5 + 1e-300
    softmax = (2 * (logit_error + 16 * UNIT * (CUTOFF + spread))).expm1() / 2
    tail = 4 * size * 2.718281828459045 ** (-CUTOFF) * radius
    return softmax + (tail + (size + 8) * UNIT * origin) / rms
