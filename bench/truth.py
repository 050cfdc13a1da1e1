"""What the results should be: float64, from differences of coordinates, for a few queries; and how far off they are."""

from __future__ import annotations

import math

import torch
from cases import Problem, StepProblem, TrajectoryProblem

Tensor = torch.Tensor
ROWS = 8  # queries checked: the first and the last few


def checked_rows(queries: int) -> list[int]:
    """Indices of the queries that are checked."""
    return sorted({*range(min(queries, ROWS // 2)), *range(max(0, queries - ROWS // 2), queries)})


def truth(problem: Problem) -> dict[str, Tensor]:
    """Exact results of the checked rows; rms = sqrt(sum w |y - h|^2) is what errors of force are measured by."""
    rows = checked_rows(problem.case.queries)
    h = problem.field[rows].double()
    square = torch.cat(
        [
            torch.cdist(h, y.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
            for y in problem.states.split(4096)
        ],
        1,
    )
    logits = -problem.beta / 2 * square - math.log(len(problem.states))
    weights = torch.softmax(logits, 1)
    out = {
        "mean": _average(weights, problem.states),
        "log_evidence": torch.logsumexp(logits, 1),
        "rms": (weights * square).sum(1).sqrt(),
    }
    if problem.case.op == "covariance":
        out["covariance"] = torch.stack(
            [_scatter(w, problem.states, m) for w, m in zip(weights, out["mean"], strict=True)]
        )
    if problem.case.op == "response":
        v = problem.probes[rows].double()
        along = torch.cat([v @ y.double().T for y in problem.states.split(4096)], 1) - (v * out["mean"]).sum(1)[:, None]
        moment = weights * along
        out["response"] = _average(moment, problem.states) - moment.sum(1)[:, None] * out["mean"]
    return out


def errors(problem: Problem, exact: dict[str, Tensor], output: dict[str, Tensor]) -> dict[str, float]:
    """Largest error over the checked rows that `output` holds (its first queries).

    mean : |error of the force| / rms; covariance, response : relative to rms^2 (times |v|); log_evidence : relative to
    max(1, |log Z~|).
    """
    rows = checked_rows(problem.case.queries)
    scales = {
        "mean": exact["rms"],
        "covariance": exact["rms"] ** 2,
        "response": exact["rms"] ** 2 * problem.probes[rows].double().norm(dim=1),
        "log_evidence": exact["log_evidence"].abs().clamp_min(1),
    }
    found = {}
    for name, values in output.items():
        inside = [i for i, row in enumerate(rows) if row < len(values)]
        difference = values[[rows[i] for i in inside]].double() - exact[name][inside]
        found[name] = float((difference.reshape(len(inside), -1).norm(dim=1) / scales[name][inside]).max())
    return found


def step_error(problem: StepProblem, output: Tensor, noise: Tensor) -> float:
    """Largest error against float64 with the same noise, which `noise` is: the result of a = b = 0, c = 1."""
    a, b, c = problem.coefficients
    n = len(output)
    exact = a * problem.x[:n].double() + b * problem.mean[:n].double() + c * noise.double()
    return float((output.double() - exact).abs().max() / exact.square().mean().sqrt())


def trajectory_error(problem: TrajectoryProblem, output: Tensor) -> float:
    """Largest error of the checked rows after one step without noise, against float64, relative to sqrt(<x^2>)."""
    rows = checked_rows(len(problem.x))
    a, b, _, inverse, beta = problem.table[0].tolist()
    x = problem.x[rows].double()
    square = torch.cdist(inverse * x, problem.states.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    exact = a * x + b * torch.softmax(-beta / 2 * square, 1) @ problem.states.double()
    return float((output[rows].double() - exact).abs().max() / exact.square().mean().sqrt())


def noise_error(noise: Tensor) -> float:
    """How far the noise is from mean 0, variance 1 and fourth moment 3, in standard deviations of their estimates."""
    z, root = noise.double().flatten(), math.sqrt(noise.numel())
    square = z * z
    scores = (z.mean(), (square.mean() - 1) / math.sqrt(2), ((square**2).mean() - 3) / math.sqrt(96))
    return max(abs(float(score)) * root for score in scores)


def _average(weights: Tensor, states: Tensor) -> Tensor:
    pairs = zip(weights.split(4096, 1), states.split(4096), strict=True)
    return sum((w @ y.double() for w, y in pairs), weights.new_zeros(()))


def _scatter(weights: Tensor, states: Tensor, mean: Tensor) -> Tensor:
    deviation = states.double() - mean
    return (deviation * weights[:, None]).T @ deviation
