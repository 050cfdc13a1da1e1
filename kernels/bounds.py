"""The proved error of float64 sums over states, as arithmetic on per-query scalars (torch tensors).

Notation: u = 2^-53; t = y_n - y_r, g = y_r - h; the kernels compute the energy of n relative to r as sum_d t (t/2 + g).

1. Its rounding error is at most (D + 4) u |t| (|t|/2 + |g|) (Higham 2002, section 3.1, and Cauchy-Schwarz).
2. States whose weight is above e^-T of the largest satisfy beta H~_n <= beta H~_r + T + spread of log phi, hence
   |t| <= sqrt(2 H~_n) + |g|; and always |t| <= the diameter of the data.
3. Logit errors of at most e change the mean by at most (exp(2 e) - 1)/2 sum w |y - m|, and sum w |y - m| <= rms force.
4. States below e^-T contribute at most 2 N e^-T times the diameter.
5. Summing N terms w (y - y_r) adds at most (N + 8) u sum w |y - y_r| <= (N + 8) u (rms force + |g|).

A change of the reference state during a pass adds one more relative energy, hence `changes`.
"""

UNIT = 2.0**-53
CUTOFF = 100.0  # T: e^-100 = 4e-44


def float64_bound(size, dimension, diameter, spread, beta, energy_min, excess, changes):  # type: ignore[no-untyped-def]
    """Bound |force error| / rms force for (B,) float64 arrays `beta`, `energy_min`, `excess`, `changes`."""
    distance = (2 * energy_min) ** 0.5
    rms = (2 * (energy_min + excess)) ** 0.5
    tiny = 1e-300
    reach = (2 * (energy_min + (CUTOFF + spread) / beta)) ** 0.5 + distance
    reach = reach.clip(0, diameter)
    energy_error = (dimension + 4) * UNIT * reach * (reach / 2 + distance)
    logit_error = (1 + changes) * (beta * energy_error + 16 * UNIT * (CUTOFF + spread))
    tail = 2 * size * 2.718281828459045 ** (-CUTOFF) * diameter
    softmax_error = (2 * logit_error).expm1() / 2
    return softmax_error + tail / (rms + tiny) + (size + 8) * UNIT * (1 + distance / (rms + tiny))
