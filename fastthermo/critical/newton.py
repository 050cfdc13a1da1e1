"""Newton's method for h = <y> on many queries at once: (1 - beta C) dh = <y> - h.

Near a critical point 1 - beta C is almost singular, and along the directions of a broken continuous symmetry it is
singular. Each step therefore solves Re (1 - beta C + i mu)^-1 (<y> - h) with mu = |<y> - h| / scale: every eigenvalue
lambda of 1 - beta C enters as lambda / (lambda^2 + mu^2), which converges as fast where solutions are isolated and
still converges where they are not (Levenberg-Marquardt without the square of the condition number). The sign of lambda
is kept, so that maxima and saddles of F~ attract as minima do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DENSE = 16  # dimensions up to which matrices are cheaper than products
PRODUCTS = 16  # at most, a step
CHUNK = 4096  # queries at a time
ROUNDING = 1e-15  # a residual, in units of the scale, that no step improves
LEAP = 30.0  # at most, the factor of <y> - h in a descent
STRIDE = 0.1  # length of a step to which it is stretched, in units of the scale
REACH = 0.5  # longest step, in units of the scale
SINGLE = 3e-6  # least tolerance for a model that says it answers in single precision


def coarse(model: Any) -> dict[str, bool]:
    """The option of ensembles that makes means and responses right to float32 accuracy: enough on the way."""
    return {"single": True} if hasattr(model, "evolve") else {}


def attainable(model: Any, tolerance: float) -> float:
    """A tolerance of |<y> - h| in units of the scale, or the least that the precision of a model's answers allows."""
    return max(tolerance, SINGLE) if getattr(model, "single_precision", False) else tolerance


def force(model: Any, h: torch.Tensor, beta: torch.Tensor, **options: bool) -> torch.Tensor:
    """<y> - h = -grad F~, (B, D)."""
    import torch

    if not len(h):
        return h.clone()
    with torch.no_grad():
        mean: torch.Tensor = model.mean(h, beta, **options)
    return mean.to(h.dtype) - h


def downhill(f: torch.Tensor, step: torch.Tensor, before: torch.Tensor, scale: float) -> torch.Tensor:
    """The next step (B, D) of a descent of F~ with force f, after `step` from where the force was `before`.

    a (<y> - h) with the a >= 1 of Barzilai & Borwein 1988: a = 1, which never overshoots, is slow near a transition.
    """
    import torch

    fall = (step * (before - f)).sum(1)
    a = torch.where(fall > 0, (step * step).sum(1) / fall, LEAP).clamp(1, LEAP)
    a = torch.where((step != 0).any(1), a, 1.0)
    return torch.minimum(a, (STRIDE * scale / f.norm(dim=1).clamp_min(1e-300)).clamp_min(1))[:, None] * f


def newton(
    model: Any, h: torch.Tensor, beta: torch.Tensor, scale: float, tolerance: float, max_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solutions of <y> = h near h (B, D) at beta (B,), and |<y> - h| at what was reached (B,), float64.

    A query is done at a residual of `tolerance * scale`, and is taken one step further where that helps.
    """
    import torch

    tolerance = attainable(model, tolerance)
    h = h.clone()
    residual = h.new_full((len(h),), float("inf"))
    for rows in torch.arange(len(h), device=h.device).split(CHUNK):
        x, b = h[rows], beta[rows]
        f = force(model, x, b)
        r = f.norm(dim=1)
        done = r <= tolerance * scale
        active = (~done).nonzero()[:, 0]
        for _ in range(max_steps):
            if not len(active):
                break
            x[active] += _step(model, x[active], b[active], f[active], scale)
            f[active] = force(model, x[active], b[active])
            r[active] = f[active].norm(dim=1)
            active = active[~(r[active] <= tolerance * scale)]
        last = ((r <= tolerance * scale) & (r > ROUNDING * scale)).nonzero()[:, 0]
        if len(last):
            better = x[last] + _step(model, x[last], b[last], f[last], scale)
            r_last = force(model, better, b[last]).norm(dim=1)
            x[last] = x[last].where((r_last >= r[last])[:, None], better)
            r[last] = torch.minimum(r[last], r_last)
        h[rows], residual[rows] = x, r
    return h, residual


def _step(model: Any, h: torch.Tensor, beta: torch.Tensor, f: torch.Tensor, scale: float) -> torch.Tensor:
    """The damped Newton step (B, D), no longer than REACH * scale."""
    import torch

    size = f.norm(dim=1)
    mu = size / scale
    apply, dense = model.response(h, beta, **coarse(model))
    if h.shape[1] <= DENSE:
        unit = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        matrix = unit - beta[:, None, None] * dense()
        step = torch.linalg.solve_ex(matrix + 1j * mu[:, None, None] * unit, f.to(torch.complex128))[0].real
    else:
        step = krylov(lambda v: v - beta[:, None] * apply(v[:, None])[:, 0], f, mu)
    step = torch.where(step.isfinite().all(1, keepdim=True), step, f)
    longest = REACH * scale / step.norm(dim=1).clamp_min(1e-300)
    return step * longest.clamp_max(1)[:, None]


def krylov(apply: Callable[[torch.Tensor], torch.Tensor], f: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    """Re (A + i mu)^-1 f for a batch of operators A on (B, D), by full orthogonalisation (Saad 2003, section 6.4).

    To a relative residual of mu, which keeps Newton's convergence quadratic, between 1e-3 and 0.1.
    """
    import torch

    batch, size = f.shape
    norm = f.norm(dim=1)
    basis = f.new_zeros(batch, PRODUCTS + 1, size)
    basis[:, 0] = f / norm.clamp_min(1e-300)[:, None]
    projected = f.new_zeros(batch, PRODUCTS + 1, PRODUCTS)
    for k in range(min(PRODUCTS, size)):
        v = apply(basis[:, k])
        known = basis[:, : k + 1]
        for _ in range(2):
            part = (known @ v[..., None])[..., 0]
            projected[:, : k + 1, k] += part
            v = v - (part[:, None] @ known)[:, 0]
        length = v.norm(dim=1)
        alive = length > 1e-12
        projected[:, k + 1, k] = length * alive
        basis[:, k + 1] = v * (alive / length.clamp_min(1e-300))[:, None]
        small = projected[:, : k + 1, : k + 1]
        dead = (small.abs().amax(1) == 0) & (small.abs().amax(2) == 0)  # of exhausted subspaces
        unit = torch.eye(k + 1, dtype=f.dtype, device=f.device)
        shifted = small + unit * (dead[:, None] + 1j * mu[:, None, None])
        right = f.new_zeros(batch, k + 1, dtype=torch.complex128)
        right[:, 0] = norm
        y = torch.linalg.solve_ex(shifted, right)[0]
        if bool((projected[:, k + 1, k] * y[:, -1].abs() <= mu.clamp(1e-3, 0.1) * norm).all()):
            break
    return (y.real[:, None] @ basis[:, : k + 1])[:, 0]
