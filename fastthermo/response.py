"""Susceptibilities as operators.

    local            chi_loc = beta C = d<y>/dh            finite always; its eigenvalues are the gains of the denoiser
    self-consistent  chi = (1 - beta C)^-1 beta C          diverges where the top gain reaches 1, the critical point

Both are asked through products with vectors, so that D x D matrices are made only when they are wanted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastthermo._arrays import Queries, check_leading, read_rows
from fastthermo.denoiser import Model
from fastthermo.state import Law

if TYPE_CHECKING:
    import torch

DENSE = 64  # dimensions up to which eigenpairs come from the dense matrix
UNSETTLED = 1e-5  # residual over the largest eigenvalue that is worth a warning: above the rounding of networks


@dataclass(frozen=True)
class Susceptibility:
    """chi_loc = beta C = d<y>/dh at a batch of queries. Made by `susceptibility`."""

    queries: Queries
    apply: Callable[[torch.Tensor], torch.Tensor]  # (B, K, D) -> (B, K, D), C v
    covariance: Callable[[], torch.Tensor]  # () -> (B, D, D), C
    adjoint: Callable[[torch.Tensor], torch.Tensor] | None = None  # C^T v, where C need not be symmetric: a network

    def mv(self, v: Any) -> Any:
        """beta C v for v shaped like the field, or one v (D,) for all queries."""
        return self.queries.vector(self._mv(self._read(v))[:, 0])

    def rmv(self, v: Any) -> Any:
        """(beta C)^T v; what `mv` gives for the C of a law."""
        return self.queries.vector(self._rmv(self._read(v))[:, 0])

    def symmetry_defect(self, probes: int = 4, seed: int = 0, shift: float = 0.0) -> Any:
        """|A - A^T| / |A + A^T| of A = beta C - shift in the Frobenius norm (B,), from random probes; 0 for a law.

        The score of a distribution is a gradient, so that its Jacobian is symmetric; a network only approximates one.
        Each probe v gives unbiased estimates of both squared norms (Hutchinson), at the price of an `mv` and an `rmv`.
        """
        import torch

        like = self.queries.field
        if self.adjoint is None:
            return self.queries.scalar(like.new_zeros(len(like)))
        generator = torch.Generator().manual_seed(seed)
        v = torch.randn(1, probes, like.shape[1], dtype=like.dtype, generator=generator).to(like.device)
        v = v.expand(len(like), -1, -1)
        forward, backward = self._mv(v), self._rmv(v)
        total = forward + backward - 2 * shift * v
        odd, even = (x.flatten(1).norm(dim=1) for x in (forward - backward, total))
        return self.queries.scalar(odd / even.where(odd > 0, 1.0))  # the derivative of a constant is symmetric

    def dense(self) -> Any:
        """beta C, shape (B, D, D), or (D, D) for a single query."""
        return self.queries.matrix(self._dense())

    def leading(self, k: int = 1, tolerance: float = 1e-8, method: str = "auto", max_products: int = 60) -> Any:
        """The k largest eigenvalues (B, k), decreasing, and their unit eigenvectors (B, k, D), float64.

        Of (C + C^T) / 2 where C is not symmetric, as a network's; a product is then an `mv` and an `rmv`, and
        vectors go one by one, since a network does as much work for each.

        method : "dense" diagonalises beta C; "lanczos" is a block Krylov iteration on `mv`, until residuals fall below
            `tolerance` times the largest eigenvalue or after `max_products` block products; "auto" takes the first for
            D <= 64. A UserWarning says where a residual is left above 1e-5 of the largest eigenvalue.
        """
        size = self.queries.field.shape[1]
        check_leading(k, size)
        if method not in ("auto", "dense", "lanczos"):
            raise ValueError(f"method: wanted 'auto', 'dense' or 'lanczos', got {method!r}")
        if method == "dense" or (method == "auto" and size <= DENSE):
            import torch

            values, vectors = torch.linalg.eigh(self._symmetric_dense())
            values, vectors = values.flip(1)[:, :k], vectors.mT.flip(1)[:, :k]
        else:
            block = k + 1 if self.adjoint is None else 1
            values, vectors = block_lanczos(self._symmetric_mv, self.queries.field, k, tolerance, max_products, block)
        return self.queries.rows(values), self.queries.rows(vectors)

    def gains(self) -> Any:
        """All eigenvalues of beta C, decreasing, (B, D) float64; of (C + C^T) / 2 where C is not symmetric."""
        import torch

        return self.queries.rows(torch.linalg.eigvalsh(self._symmetric_dense()).flip(1))

    def self_consistent(self) -> Any:
        """(1 - beta C)^-1 beta C, shape (B, D, D): the response of a fixed point h = <y>; infinite at criticality."""
        import torch

        values, vectors = torch.linalg.eigh(self._symmetric_dense())
        return self.queries.matrix((vectors * (values / (1 - values))[:, None]) @ vectors.mT)

    def _read(self, v: Any) -> torch.Tensor:
        """Vectors of the caller as (B, 1, D)."""
        q = self.queries
        rows, _, _ = read_rows("v", v, q.field.shape[1], q.field.device)
        if len(rows) not in (1, len(q.field)):
            raise ValueError(f"v: wanted one vector or {len(q.field)}, one a query, got {len(rows)}")
        return rows.double().expand(len(q.field), -1)[:, None]

    def _mv(self, v: torch.Tensor) -> torch.Tensor:
        return self.queries.beta[:, None, None] * self.apply(v)

    def _rmv(self, v: torch.Tensor) -> torch.Tensor:
        return self.queries.beta[:, None, None] * (self.adjoint or self.apply)(v)

    def _symmetric_mv(self, v: torch.Tensor) -> torch.Tensor:
        return self._mv(v) if self.adjoint is None else (self._mv(v) + self._rmv(v)) / 2

    def _symmetric_dense(self) -> torch.Tensor:
        dense = self._dense()
        return dense if self.adjoint is None else (dense + dense.mT) / 2

    def _dense(self) -> torch.Tensor:
        return self.queries.beta[:, None, None] * self.covariance()


def susceptibility(model: Model, field: Any, beta: Any) -> Susceptibility:
    """The local susceptibility d<y>/dh of a law or denoiser at `field` (D,), (B, D) or image-shaped and `beta`."""
    q = Queries.read(field, beta, model.dimension, model.device)
    adjoint = getattr(model, "adjoint", None)
    apply, dense = model.response(q.field, q.beta)
    return Susceptibility(q, apply, dense, None if adjoint is None else adjoint(q.field, q.beta))


def covariance(law: Law, field: Any, beta: Any, **options: Any) -> Any:
    """Cov(y) under the Boltzmann weights of `law`: (B, D, D), or (D, D) for a single query."""
    return law.covariance(field, beta, **options)


def block_lanczos(
    mv: Callable[[torch.Tensor], torch.Tensor],
    like: torch.Tensor,
    k: int,
    tolerance: float,
    max_products: int,
    block: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest k eigenpairs of a batch of symmetric operators on (B, K, D): values (B, k), vectors (B, k, D).

    Blocks find eigenvalues of a multiplicity up to their size. The basis is kept and orthogonalised twice
    against itself (Parlett 1998, section 6.9); Rayleigh-Ritz on it gives the pairs, A Q - Q T their true residuals.
    """
    import torch

    batch, size = like.shape
    block = min(block, size)
    generator = torch.Generator().manual_seed(0)

    def random() -> torch.Tensor:
        start = torch.randn(1, block, size, dtype=torch.float64, generator=generator)
        return start.to(like.device).expand(batch, -1, -1)

    basis = image = like.new_zeros(batch, 0, size)
    candidates = random()
    while True:
        candidates = _orthonormal(candidates, basis, random())[:, : size - basis.shape[1]]
        basis = torch.cat([basis, candidates], 1)
        candidates = mv(candidates)
        image = torch.cat([image, candidates], 1)
        if basis.shape[1] < k:
            continue
        projected = basis @ image.mT
        values, weights = torch.linalg.eigh((projected + projected.mT) / 2)
        values, weights = values.flip(1)[:, :k], weights.mT.flip(1)[:, :k]
        vectors = weights @ basis
        residual = (weights @ image - values[..., None] * vectors).norm(dim=2)
        done = bool((residual <= tolerance * values[:, :1].abs() + 1e-300).all())
        if done or basis.shape[1] == size:
            return values, vectors
        if basis.shape[1] >= block * max_products:
            left = float((residual / values[:, :1].abs().clamp_min(1e-300)).amax())
            if left > max(tolerance, UNSETTLED):
                warnings.warn(
                    f"leading eigenvalues: a residual of {left:.1e} of the largest is left after {max_products} block "
                    f"products, wanted {tolerance:.1e}: they may be too low; ask for more max_products or 'dense'",
                    stacklevel=3,
                )
            return values, vectors


def _orthonormal(candidates: torch.Tensor, basis: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows spanning the candidates outside the basis; exhausted directions are replaced by spare ones."""
    import torch

    candidates = candidates / candidates.abs().amax((1, 2), keepdim=True).clamp_min(1e-300)
    scale = candidates.norm(dim=2, keepdim=True).amax(1, keepdim=True)
    for _ in range(3):
        candidates = candidates - (candidates @ basis.mT) @ basis
        q, r = torch.linalg.qr(candidates.mT)
        lost = r.diagonal(dim1=1, dim2=2).abs()[..., None] <= 1e-10 * scale
        candidates = torch.where(lost, spare, q.mT)
        scale = torch.ones_like(scale)
    candidates = candidates - (candidates @ basis.mT) @ basis
    return torch.linalg.qr(candidates.mT)[0].mT
