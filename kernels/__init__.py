"""Sums over the states of a Boltzmann ensemble: tensors in, tensors out.

A backend is a subpackage (`reference`, `numba`, `triton`) that offers the same functions. Kernels know packed states, a
field and an inverse temperature; nothing of time, schedules or networks. Sizes: B queries, N states, D dimensions, K
probes.

With H~_n = |y_n - h|^2 / 2 and normalised or unnormalised prior weights phi_n, the Boltzmann weights are

    w_n = phi_n exp(-beta H~_n) / Z~,   r = argmax_n w_n   (the dominant state; the lowest index of a tie)

pack(states, log_weights) -> packed
    states (N, D) float32, float64 or uint8; log_weights (N,) float64, -inf allowed. The backend's own layout.

boltzmann(packed, field, beta, precision) -> Sums
    field (B, D) and beta (B,), float64. Every quantity is relative to the dominant state, so that nothing is lost to
    cancellation at any temperature: mean = y_r + shift, force = (y_r - field) + shift.
    precision : "double"; "single", where the force is wanted to about 1e-6 of its rms (1e-5 among many copies of one
    state, which share the error of a product, and of few states in many dimensions), certified by error_bound; or
    "fast", arithmetic in the precision of the states where that holds a weight. Float64 states are summed in
    float64 in any case. Weights below 1e-26 of the dominant one count as none in "single" and "fast", below 1e-300
    in "double"; so may weights that are below e^-9.2/N of the second largest and e^-16/N of the largest in
    "single", e^-45 of the second largest in "double". The ops below take it too.

derive(states, log_weights, field, beta, sums) -> log_evidence, mean, force, energy, entropy, energy_variance, y_r,
        log phi_r
    Optional: `fastthermo.ops.moments.derive` in one pass; states and log_weights as `pack` takes them.

covariance(packed, field, beta, sums, precision) -> (B, D, D)
    C = sum_n w_n (y_n - m)(y_n - m)^T, centred on the mean m of `sums`.
    This and the op below take from `sums` the state r and log_rest, which normalise, and shift and excess, which are
    where moments are centred: the mean of a larger ensemble serves as well as its own.

cumulant(packed, field, beta, sums, probes, energy_probes, precision) -> (B, D), (B,)
    With a_k = v_k.(y - m) + u_k (H~ - <H~>) for probes v (B, K, D) and energy_probes u (B, K), K = 1 or 2:
    sum w a_1 .. a_K (y - m) and sum w a_1 .. a_K (H~ - <H~>). K = 1, u = 0 is the product C v.

top_weights(packed, field, beta, sums, k, precision) -> (B, k) float64, (B, k) int64
    The k largest w_n, decreasing, and their indices.

step(x, mean, a, b, c, seed, step, first_sample, stream) -> (B, D)
    a x + b mean + c z in the dtype of x, with z standard normal from Philox 4x32-10 (Salmon et al. 2011):
    key = seed (64 bits), counter = (sample, step, dimension // 4, stream), sample = first_sample + row;
    Box-Muller on the pairs (0, 1) and (2, 3) of the four words, u1 = (word + 1/2) 2^-32, u2 = word 2^-32.

    a, b, c and step are numbers or, where the backend is for GPUs, tensors of one element on the device.

evolve(packed, x, schedule, noise, whole) -> (B, D), or (T, B, D) if `whole`
    x after all steps of a `Schedule`, or after each; averages in "single" for float32 samples, else in "double".

Every element of an output is written; memory beyond inputs and outputs is a tile, never B x N.
"""

from typing import Any, NamedTuple

if __name__ != "fastthermo.kernels":
    raise ImportError(f"fastthermo's kernels are imported as fastthermo.kernels, not as {__name__!r}")


class Sums(NamedTuple):
    """What `boltzmann` returns for B queries, in the order of the contract. All float64 but `dominant`."""

    dominant: Any  # (B,) int64: r, the state of largest weight
    shift: Any  # (B, D): sum w (y - y_r)
    log_rest: Any  # (B,): log of sum over n != r of w_n / w_r, so that 1 - w_r = sigmoid(log_rest) without cancellation
    energy_min: Any  # (B,): H~_r
    excess: Any  # (B,): sum w (H~ - H~_r)
    excess_square: Any  # (B,): sum w (H~ - H~_r)^2
    participation: Any  # (B,): sum w^2
    error_bound: Any  # (B,): bounds |force error| / sqrt(sum w |y - h|^2), arithmetic only
    log_error: Any = None  # (B,): bounds the error of log(1 + exp(log_rest)), by which unions weigh their parts


class Schedule(NamedTuple):
    """T steps x' = a x + b <y> + c z at the field x / alpha. Data are scale * states + shift, x is in their units."""

    table: Any  # (T, 5) float64, on the device of x: a, b, c, 1 / alpha, beta
    after: Any = None  # (T, 3): 1 / alpha and beta at the new x, and the weight of the mean there in a second try
    scale: float = 1.0
    shift: float = 0.0


class Noise(NamedTuple):
    """The key and counter of the noise of a trajectory, as `step` takes them."""

    seed: int
    first_step: int = 0
    first_sample: int = 0
    stream: int = 0
