"""The proved error of sums over states, as arithmetic on per-query scalars: arrays of NumPy or torch.

Notation: u = 2^-53 or, in float32, 2^-24; a an anchor among the states, t = y_n - a, R = max |t|, g = a - h; r the
reference state.

1. Energies by products, H~_n - H~_a = |t_n|^2/2 + t_n.g, in chains of at most K dimensions: the roundings of t, g, of
   the chain, of its sum and of |t|^2/2 add to at most (K + D/K + 7) u R (R/2 + |g|) (Higham 2002, section 3.1, and
   Cauchy-Schwarz). `product_error` is beta times that.
2. Energies by differences, H~_n - H~_r = sum_d s (s/2 + k) with s = y_n - y_r and k = y_r - h, err by at most
   (D + 4) u |s| (|s|/2 + |k|). States whose weight is above e^-T of the largest satisfy
   beta H~_n <= beta H~_r + T + spread of log phi, hence |s| <= sqrt(2 H~_n) + |k|; and always |s| <= 2 R. A change of
   the reference state during a pass adds one more such energy, hence `changes`.
3. Energies |y_n - h|^2/2 by differences err by at most (D + 4) u of themselves.
4. If logits err by d_n, the mean changes by sum w d (y - m) to first order, exactly by at most
   e^(2 max |d|) sum w |d| |y - m|. By Cauchy-Schwarz that is at most e^(..) sqrt(sum w d^2) times the rms force; over
   states that hold a share q of the weights, with |d| <= e, at most expm1(2 e) min(sqrt(q), 2 q R / rms) rms.
5. States below e^-T contribute at most 2 N e^-T times the diameter 2 R, and e^e times that where their logits err by e:
   what seemed to weigh nothing may then be all that weighs.
6. Summing n terms w (y - o) in one chain adds at most (n + 8) u sum w |y - o|: at most rms force + |k| about the
   reference state, rms force about the field, q R about the anchor.
7. The logarithm of a sum whose logits err by d_n errs by at most log sum w e^|d_n|, hence by max |d|, by e^(max |d|)
   sum w |d|, and by expm1(e) q for the states of 4. This is the `log_error` of a part of the states.
8. A union has the force f = sum s_p f_p of its parts p, shares s_p in proportion to their sums. Let the computed
   logarithms of the sums err by d_p, |d_p| <= e_p: `log_error` and 2 for the energy of the part's reference state; and
   the f_p by at most b_p rms_p. The true shares are s_p e^-d_p / Z with Z = sum s e^-d >= e^-(sum s e) by convexity, so
       Z (f_true - f) = sum s_p (e^-d_p - 1)(f_p,true - f) + sum s_p (f_p,true - f_p),
   at most sum s_p expm1(e_p) (|f_p - f| + b_p rms_p) + sum s_p b_p rms_p, the last at most rms max b_p (Jensen: the
   squares of the rms_p average to that of rms). No share has to be large enough to be right.
9. Integer products: energies err by the eps of `numba.codes`. In the force weights become multiples of a step, off by
   two at most (dither, rounding), and as much again where they are made to sum to what they did before. By
   Cauchy-Schwarz sum |w' - w| |t| <= 4 R sqrt(N sum step^2). States that bytes stand for are off by a residual.
10. What a bound is relative to must not be noise itself. rms^2 = 2 (H~_r + sum w (H~ - H~_r)) is too large by at most
   2 q times the error of an energy of 4's share q, and by 2 p (2 R) (R + |k|) where p of the weights should be none; if
   |k| > R the latter is a share of 2 H~_r that does not matter. That much is left out of it (`_rms`).
11. A state whose weight is above e^-T of the largest, and so of the anchor's, satisfies beta (|t|^2/2 - |t| |g|) <=
   T + spread, hence |t| <= |g| + sqrt(|g|^2 + 2 (T + spread) / beta) = S: 1 holds with the lesser of R and S (`reach`).
   Energies of states beyond S grow with |t| faster than their errors, so that none of these comes above
   e^-(T - beta error at S), which 5 leaves room for unless the bound is of no use.
"""

import math

CUTOFF = 60.0  # T: e^-60 = 9e-27
# beta R^2 at which temperatures are cut. Below HOT weights are, in float64, those of infinite temperature; above COLD,
# in float32 on GPUs, those of zero unless states are closer than 1e-15 R; above FROZEN those of zero.
HOT, COLD, FROZEN = 1e-25, 1e30, 1e200
SINGLE_RANGE = 1e-6, 3e7, 1e30  # of R and of |h - y|, and of beta |h - y|^2, whose sums and squares float32 holds
SCREENED = 45.0  # T of screening in float64: e^-45 = 3e-20
CHAIN = 256  # K
UNITS = {4: 2.0**-24, 8: 2.0**-53}  # by the bytes of a number
EXPONENTIAL = {4: 2.5e-7, 8: 1e-15}  # relative error of a weight beside that of its logit: 2^-22 on GPUs
NONE = {4: 2.0**-86, 8: 2.0**-990}  # of a weight relative to the largest, below which none may be taken for it
ROUNDING = {itemsize: (unit, EXPONENTIAL[itemsize], NONE[itemsize]) for itemsize, unit in UNITS.items()}
DOUBLE = UNITS[8]
E = 2.718281828459045


def _expm1(x):  # type: ignore[no-untyped-def]
    """At least e^x - 1, for x >= 0: x / (1 - x) below 1, and so large beyond that it says nothing."""
    x = x.clip(0, 1e100)
    return x / (1 - x.clip(0, 0.9)) + 1e200 * x * (x > 0.9)


def _rms(energy_min, excess, slack):  # type: ignore[no-untyped-def]
    """At most sqrt(<|y - h|^2>), by 10, and never 0."""
    return (2 * (energy_min + excess) - slack).clip(0, None) ** 0.5 + 1e-300


def reach(radius, spread, beta, distance):  # type: ignore[no-untyped-def]
    """At most |t| of a state that matters to a query at `distance` |g| from the anchor, by 11."""
    return (distance + (distance**2 + 2 * (CUTOFF + spread) / beta) ** 0.5).clip(None, radius)


def product_error(dimension, radius, itemsize, beta, distance):  # type: ignore[no-untyped-def]
    """Of a logit whose energy is a product about the anchor at `distance` |g| from the field."""
    terms = min(dimension, CHAIN) + dimension / CHAIN + 7
    return beta * (terms * UNITS[itemsize] * radius * (radius / 2 + distance))


def difference_error(dimension, radius, spread, beta, energy_min, changes):  # type: ignore[no-untyped-def]
    """Of a logit that matters whose energy is a float64 sum of differences relative to the reference."""
    distance = (2 * energy_min) ** 0.5
    reach = ((2 * (energy_min + (CUTOFF + spread) / beta)) ** 0.5 + distance).clip(0, 2 * radius)
    return (1 + changes) * beta * ((dimension + 4) * DOUBLE * reach * (reach / 2 + distance))


def near_log_error(shape, spread, rounding, beta, energy_min, excess):  # type: ignore[no-untyped-def]
    """Of the logarithm of a sum of `near_error`: all logits, and that of the reference, err."""
    (size, dimension), (unit, exponential, none) = shape, rounding
    relative = (dimension + 7) * unit
    worst = relative * (beta * energy_min + CUTOFF + spread) + exponential
    logits = relative * beta * (2 * energy_min + excess) + 8 * unit * spread + 2 * exponential
    return (1 + _expm1(2 * worst)) * logits + 160 * unit + size * (DOUBLE + 2 * none)


def near_error(shape, radius, spread, rounding, beta, energy_min, excess, excess_square):  # type: ignore[no-untyped-def]
    """|force error| / rms force of sums of |y - h|^2 by differences; `rounding` one of ROUNDING.

    Numba compiles this and `near_log_error` for scalars, too.
    """
    (size, dimension), (unit, exponential, none) = shape, rounding
    square = energy_min**2 + 2 * energy_min * excess + excess_square  # <H~^2>
    relative = (dimension + 7) * unit
    worst = relative * (beta * energy_min + CUTOFF + spread) + exponential
    logits = relative * beta * square.clip(0, None) ** 0.5 + 4 * unit * spread + exponential
    left = size * none * radius
    rms = _rms(energy_min, excess, 8 * left * radius)
    return (1 + _expm1(2 * worst)) * logits + 160 * unit + size * DOUBLE + 4 * left / rms


def dense_error(  # type: ignore[no-untyped-def]
    shape, radius, spread, itemsize, beta, product, energy_min, excess, tail, changes, grain=0.0, residual=0.0
):
    """|force error| / rms force of sums whose tail, a share of the weights, comes from products.

    product : the error of a logit of the tail.
    grain : the sum of the squared steps of 9, for normalised weights; residual : of 9.
    """
    size, dimension = shape
    rms = _rms(energy_min, excess, 2 * tail * product / beta)
    near = difference_error(dimension, radius, spread, beta, energy_min, changes) + 16 * DOUBLE * (CUTOFF + spread)
    far = (product + EXPONENTIAL[itemsize]).clip(0, 300)
    share = (2 * tail * radius / rms).clip(None, tail**0.5)
    origin = ((size + 8) * DOUBLE) * (1 + (2 * energy_min) ** 0.5 / rms) + 512 * UNITS[itemsize] * tail * radius / rms
    left = (size * (4 * E ** (-CUTOFF) + 1e-13) * E**far).clip(0, 1)
    dropped = left * radius / rms + 1e200 * left * (left > 0.5)
    rounded = (4 * (size * grain) ** 0.5 * radius + tail * residual) / rms
    return _expm1(2 * near) / 2 + _expm1(2 * far) * share + origin + dropped + rounded


def dense_log_error(shape, radius, spread, itemsize, beta, product, energy_min, tail, changes):  # type: ignore[no-untyped-def]
    """Of the logarithm of a sum of `dense_error`."""
    size, dimension = shape
    near = difference_error(dimension, radius, spread, beta, energy_min, changes) + 16 * DOUBLE * (CUTOFF + spread)
    far = (product + EXPONENTIAL[itemsize]).clip(0, 300)
    left = ((2 * size * E ** (-CUTOFF) + 1e-13 * (size / 32 + 1)) * E**far).clip(0, 1)
    dropped = left + 1e200 * left * (left > 0.5)
    return _expm1(2 * near) / 2 + (_expm1(2 * far) + 512 * UNITS[itemsize]) * tail + (size + 8) * DOUBLE + dropped


def cutoffs(shape, precision):  # type: ignore[no-untyped-def]
    """T of screening: what is dropped weighs less than e^-T of the runner-up and than e^-T' of the largest."""
    return (math.log(shape[0]) + 9.2, math.log(shape[0]) + 16.0) if precision == "single" else (SCREENED, SCREENED)


def screened_error(shape, radius, spread, precision, beta, energy_min, excess, rest, tail, rough, left=0.0):  # type: ignore[no-untyped-def]
    """|force error| / rms force of sums over the candidates of screening.

    tail : the share whose logits are known to `rough` only.
    rest : the sum of the weights relative to the largest, which is not in it.
    left : bounds the sum of those, relative to the largest, that are in no force.
    """
    size, dimension = shape
    rms = _rms(energy_min, excess, 2 * tail * rough / beta)
    logits = difference_error(dimension, radius, spread, beta, energy_min, 1) + 16 * DOUBLE * (SCREENED + spread)
    share = (2 * tail * radius / rms).clip(None, tail**0.5)
    runner_up, largest = cutoffs(shape, precision)
    dropped = 4 * (size * (rest * E**-runner_up).clip(None, E**-largest) + left) * radius / rms
    origin = (size + 8) * DOUBLE * (1 + (2 * energy_min) ** 0.5 / rms) + (size + 8) * UNITS[4] * tail * radius / rms
    return _expm1(2 * logits) / 2 + _expm1(2 * (rough + 4 * UNITS[4])) * share + dropped + origin


def force_error(size, radius, spread, logit_error, origin, energy_min, excess):  # type: ignore[no-untyped-def]
    """|force error| / rms force of plain float64 sums about an origin o; `origin` bounds sum w |y - o|."""
    rms = _rms(energy_min, excess, 0.0)
    softmax = _expm1(2 * (logit_error + 16 * DOUBLE * (CUTOFF + spread))) / 2
    tail = 4 * size * E ** (-CUTOFF) * radius
    return softmax + (tail + (size + 8) * DOUBLE * origin) / rms


def screened_log_error(shape, radius, spread, precision, beta, energy_min, rest, tail, rough, left=0.0):  # type: ignore[no-untyped-def]
    """Of the logarithm of a sum of `screened_error`; what is dropped is relative to the runner-up, so to `rest`."""
    size, dimension = shape
    logits = difference_error(dimension, radius, spread, beta, energy_min, 1) + 16 * DOUBLE * (SCREENED + spread)
    dropped = 2 * size * E ** -cutoffs(shape, precision)[0] * rest / (1 + rest) + 2 * left
    single = (size + 8) * UNITS[4] * tail + _expm1(2 * (rough + EXPONENTIAL[4])) * tail
    return _expm1(2 * logits) / 2 + (size + 8) * DOUBLE + single + dropped


def log_error(size, spread, logit_error):  # type: ignore[no-untyped-def]
    """Of the logarithm of a sum of `force_error`."""
    softmax = _expm1(2 * (logit_error + 16 * DOUBLE * (CUTOFF + spread))) / 2
    return softmax + 2 * size * E ** (-CUTOFF) + (size + 8) * DOUBLE


def union_error(shape, beta, share, log_share, part_error, part_log_error, distance, leap, deviation, rms, part_rms):  # type: ignore[no-untyped-def]
    """|force error| / rms force and the error of log sum of a union of parts; arrays (parts, B), but rms (B,).

    distance : |y_r - h|, r the reference of the union; leap : |y_p - y_r|; deviation : |f_p - f|.
    """
    count, dimension = shape
    logits = beta * ((dimension + 4) * DOUBLE * leap * (leap / 2 + distance))
    error = part_log_error + logits + 16 * DOUBLE * (CUTOFF + abs(log_share).clip(0, 1e4))
    large = error > 0.5
    growth = share * _expm1(error.clip(0, 0.5)) + E ** (log_share + error).clip(None, 300) * large
    own = part_error.clip(0, 1e100) * part_rms
    total = E ** (share * error).sum(0).clip(0, 300) * (growth * (deviation + own) + share * own).sum(0)
    origin = (count + 8) * DOUBLE * (1 + distance / (rms + 1e-300))
    return total / (rms + 1e-300) + origin, growth.sum(0) + (count + 8) * DOUBLE
