"""The only door to the kernels: values checked once, derivatives by identity.

With E = H~ = |y - h|^2/2 the logits are l = -beta E, so a direction (dh, dbeta) changes them by

    dl = beta dh.y - dbeta E + const,   dE = -dh.y + const

and every derivative is a cumulant of linear combinations v.y + u E under the Boltzmann weights. With Cov(., .) the
covariance and K3 the third cumulant:

    d log Z~ = beta force.dh - dbeta <E>            d <y> = Cov(y, dl)
    d <E>    = -force.dh + Cov(E, dl)               d S   = beta Cov(E, dl)
    d Cov(y, a) = K3(y, a, dl) + Cov(y, da),        a = v.y + u E,  da = dv.y + du E + u dE

Backends implement forward sums only; nothing here holds B x N numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from fastthermo import _dispatch
from fastthermo.kernels import Sums

Tensor = torch.Tensor
PRECISIONS = ("exact", "fast")


@dataclass(frozen=True, eq=False)
class States:
    """N states with prior weights, packed once a backend.

    states : (N, D) float32, float64 or uint8; log_weights : (N,) float64, -inf allowed.
    """

    states: Tensor
    log_weights: Tensor
    _packed: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, x in (("states", self.states), ("log_weights", self.log_weights)):
            if x.requires_grad:
                raise ValueError(f"{name}: not differentiable, only field and beta are; detach() it")

    def packed(self, backend: str) -> Any:
        if backend not in self._packed:
            self._packed[backend] = _dispatch.load(backend).pack(self.states, self.log_weights)
        return self._packed[backend]

    def call(self, op: str, backend: str, *arguments: Any) -> Any:
        return getattr(_dispatch.load(backend), op)(self.packed(backend), *arguments)


class Moments(NamedTuple):
    """What `boltzmann` gives for B queries: differentiable quantities, then the kernel's sums relative to state r."""

    log_evidence: Tensor  # (B,) log Z~
    mean: Tensor  # (B, D) <y>
    force: Tensor  # (B, D) <y> - h
    energy: Tensor  # (B,) <H~>
    entropy: Tensor  # (B,) -KL(w || phi)
    energy_variance: Tensor  # (B,) Var(H~)
    participation: Tensor  # (B,) sum w^2
    error_bound: Tensor  # (B,)
    dominant: Tensor  # (B,) int64
    reference: Tensor  # (B, D) y_r
    shift: Tensor  # (B, D)
    log_prior: Tensor  # (B,) log phi_r
    log_rest: Tensor  # (B,)
    energy_min: Tensor  # (B,)
    excess: Tensor  # (B,)
    excess_square: Tensor  # (B,)


RAW = 7  # from error_bound on


def boltzmann(
    states: States,
    field: Tensor,
    beta: Tensor,
    precision: str = "exact",
    rtol: float | None = None,
    backend: str | None = None,
) -> Moments:
    """Boltzmann averages of the states for field (B, D) and beta (B,); see `Moments`.

    log_evidence, mean, force, energy and entropy are twice differentiable in field and beta, in reverse and forward mode
    and under torch.func. Raises ValueError where beta is not finite and positive, field is not finite, or a query's
    error bound exceeds `rtol`.
    """
    _leave_graph("boltzmann")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: wanted 'exact' or 'fast', got {precision!r}")
    if rtol is not None and not 0 < rtol < float("inf"):
        raise ValueError(f"rtol: wanted a positive number or None, got {rtol}")
    moments = Moments(*_Boltzmann.apply(field, beta, states, _dispatch.backend_name(field.device.type, backend)))
    if rtol is not None:
        worst = float(moments.error_bound.max()) if len(field) else 0.0
        if worst > rtol:
            raise ValueError(f"rtol: {rtol:.3g} cannot be met, the certified bound is {worst:.3g} in {field.dtype}")
    return moments


def covariance(states: States, field: Tensor, beta: Tensor, moments: Moments, backend: str | None = None) -> Tensor:
    """Cov(y), shape (B, D, D) float64; once differentiable in field and beta."""
    _leave_graph("covariance")
    name = _dispatch.backend_name(field.device.type, backend)
    out: Tensor = _Covariance.apply(field, beta, *_second_pass(moments), states, name)
    return out


def cumulant(
    states: States,
    field: Tensor,
    beta: Tensor,
    moments: Moments,
    probes: Tensor,
    energy_probes: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Joint cumulants of y, shape (B, D), and of H~, shape (B,), with K = 1 or 2 combinations v.y + u H~.

    probes : v, (B, K, D); energy_probes : u, (B, K), zero by default. K = 1 is once differentiable in everything.
    """
    _leave_graph("cumulant")
    if probes.shape[1] not in (1, 2):
        raise ValueError(f"probes: wanted 1 or 2 of them, shape (B, K, D), got shape {tuple(probes.shape)}")
    u = probes.new_zeros(probes.shape[:2], dtype=torch.float64) if energy_probes is None else energy_probes
    name = _dispatch.backend_name(field.device.type, backend)
    return _cumulant(field, beta, probes.double(), u.double(), _second_pass(moments), states, name)


def step(
    x: Tensor,
    mean: Tensor,
    a: float,
    b: float,
    c: float,
    seed: int,
    step: int,
    first_sample: int = 0,
    stream: int = 0,
    backend: str | None = None,
) -> Tensor:
    """a x + b mean + c z for x, mean (B, D), with z keyed by (seed, step, sample, dimension, stream). Linear, no gradient."""
    _leave_graph("step")
    if torch.is_grad_enabled() and (x.requires_grad or mean.requires_grad):
        raise ValueError("x, mean: the step kernel carries no gradient; write a * x + b * mean for a differentiable step")
    kernel = _dispatch.load(_dispatch.backend_name(x.device.type, backend)).step
    out: Tensor = kernel(x, mean, a, b, c, seed, step, first_sample, stream)
    return out


def normal(
    rows: int, dimension: int, seed: int, step: int, stream: int, first_sample: int = 0, device: Any = "cpu"
) -> Tensor:
    """Standard normal numbers (rows, dimension), float64, keyed as in `step`."""
    zero = torch.zeros(rows, dimension, dtype=torch.float64, device=device)
    return globals()["step"](zero, zero, 0.0, 0.0, 1.0, seed, step, first_sample, stream)


def merge(parts: list[Moments], field: Tensor, beta: Tensor) -> Moments:
    """Moments of the union of disjoint sets of states; `dominant` counts through `parts` only if they were offset.

    Each part is a state of its own with weight exp(log_evidence); relative evidences come from energies relative to the
    best reference state, so that nothing is lost to cancellation.
    """
    h = field.double()
    logits = torch.stack([p.log_prior - beta * p.energy_min for p in parts])
    for _ in range(2):  # the second time relative to the best, so that near-ties are told apart
        best = logits.argmax(0)
        reference, prior = _pick(best, [p.reference for p in parts]), _pick(best, [p.log_prior for p in parts])
        offsets = [p.reference - reference for p in parts]
        energies = torch.stack([(t * (t / 2 + reference - h)).sum(1) for t in offsets])
        logits = torch.stack([p.log_prior - prior for p in parts]) - beta * energies
    scale = logits.exp()
    rest = sum(
        scale[k] * (p.log_rest.exp() + (best != k).double()) for k, p in enumerate(parts)
    )
    total = 1 + rest
    share = torch.stack([scale[k] * (1 + p.log_rest.exp()) / total for k, p in enumerate(parts)])
    excess = sum(share[k] * (p.excess + energies[k]) for k, p in enumerate(parts))
    square = sum(
        share[k] * (p.excess_square + energies[k] * (2 * p.excess + energies[k])) for k, p in enumerate(parts)
    )
    sums = Sums(
        _pick(best, [p.dominant for p in parts]),
        sum(share[k, :, None] * (p.shift + offsets[k]) for k, p in enumerate(parts)),
        rest.log(),
        _pick(best, [p.energy_min for p in parts]),
        excess,
        square,
        sum(share[k] ** 2 * p.participation for k, p in enumerate(parts)),
        torch.stack([p.error_bound for p in parts]).amax(0),
    )
    return _moments(sums, reference, prior, field, beta)


def _pick(index: Tensor, columns: list[Tensor]) -> Tensor:
    stacked = torch.stack(columns)
    return stacked[index, torch.arange(stacked.shape[1], device=stacked.device)]


def _moments(sums: Sums, reference: Tensor, log_prior: Tensor, field: Tensor, beta: Tensor) -> Moments:
    """Thermodynamic quantities from sums relative to the dominant state, without subtracting large numbers."""
    log_sum = log_prior + sums.log_rest.exp().log1p()  # log sum phi exp(-beta (H~ - H~_r))
    force = (reference - field.double()) + sums.shift
    rounding = 4 * torch.finfo(field.dtype).eps  # of reference - field, shift, their sum and the output
    return Moments(
        log_evidence=log_sum - beta * sums.energy_min,
        mean=(reference + sums.shift).to(field.dtype),
        force=force.to(field.dtype),
        energy=sums.energy_min + sums.excess,
        entropy=log_sum + beta * sums.excess,
        energy_variance=(sums.excess_square - sums.excess**2).clamp_min(0),
        participation=sums.participation,
        error_bound=sums.error_bound + rounding,
        dominant=sums.dominant,
        reference=reference,
        shift=sums.shift,
        log_prior=log_prior,
        log_rest=sums.log_rest,
        energy_min=sums.energy_min,
        excess=sums.excess,
        excess_square=sums.excess_square,
    )


def _second_pass(moments: Moments) -> tuple[Tensor, ...]:
    """What covariance and cumulants need of the first pass."""
    return moments.dominant, moments.shift, moments.log_rest, moments.excess


def _as_sums(dominant: Tensor, shift: Tensor, log_rest: Tensor, excess: Tensor) -> Sums:
    return Sums(dominant, shift, log_rest, None, excess, None, None, None)


def _nested(rule: Any) -> Any:
    """Let a jvp rule itself be differentiated forwards: torch turns forward mode off inside it, and jvp of jvp is then 0.

    Saved tensors and tangents lose the tangents of the level being computed and keep those of outer levels.
    """

    def primal(x: Any) -> Any:
        return forward_ad.unpack_dual(x).primal if isinstance(x, Tensor) and x.is_floating_point() else x

    @functools.wraps(rule)
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return rule(ctx, [primal(x) for x in ctx.saved_tensors], *map(primal, tangents))

    return jvp


def _leave_graph(name: str) -> None:
    """Make torch.compile run the calling frame eagerly, derivatives included, or fail where it must trace all of it."""
    if torch.compiler.is_compiling():
        raise RuntimeError(f"fastthermo.ops.{name} cannot be traced by torch.compile; leave it out of fullgraph=True")


def _check_values(field: Tensor, beta: Tensor) -> None:
    """On the CPU; a GPU is not synchronised for it, invalid queries come out as NaN there."""
    if field.device.type != "cpu":
        return
    bad = ~((beta > 0) & (beta < torch.inf))
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise ValueError(f"beta: wanted finite positive numbers, got {float(beta[i])} for query {i}")
    finite = field.isfinite()
    if not finite.all():
        i, d = (int(k) for k in (~finite).nonzero()[0])
        raise ValueError(f"field: wanted finite numbers, got {float(field[i, d])} at query {i}, dimension {d}")


class _Function(torch.autograd.Function):
    """Shared rule for vmap: tensors of a batch of calls become one call with more queries."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *arguments: Any) -> Any:
        size = info.batch_size

        def fold(x: Any, dim: int | None) -> Any:
            if not isinstance(x, Tensor):
                return x
            x = x.movedim(dim, 0) if dim is not None else x.expand(size, *x.shape)
            return x.flatten(0, 1)

        out = cls.apply(*(fold(x, dim) for x, dim in zip(arguments, in_dims, strict=True)))
        if isinstance(out, Tensor):
            return out.unflatten(0, (size, -1)), 0
        return tuple(x.unflatten(0, (size, -1)) for x in out), (0,) * len(out)


class _Boltzmann(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, states: States, backend: str) -> tuple[Tensor, ...]:
        _check_values(field, beta)
        sums = states.call("boltzmann", backend, field.double(), beta)
        reference = states.states[sums.dominant].double()
        return tuple(_moments(sums, reference, states.log_weights[sums.dominant], field, beta))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        field, beta, ctx.states, ctx.backend = inputs
        moments = Moments(*output)
        kept = (field, beta, moments.force, moments.energy, *_second_pass(moments))
        ctx.mark_non_differentiable(*output[RAW:])
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        g = Moments(*grads)  # type: ignore[arg-type]
        if g.energy_variance is not None or g.participation is not None:
            raise NotImplementedError("heat_capacity, participation and n_eff are not differentiable")
        field, beta, force, energy, *sums = ctx.saved_tensors
        zero = torch.zeros_like(beta)
        g_evidence, g_energy, g_entropy = (zero if x is None else x for x in (g.log_evidence, g.energy, g.entropy))
        v = sum((x.double() for x in (g.mean, g.force) if x is not None), torch.zeros_like(force, dtype=torch.float64))
        u = g_energy + beta * g_entropy
        cov, cov_energy = _cumulant(field, beta, v[:, None], u[:, None], tuple(sums), ctx.states, ctx.backend)
        by_field = beta[:, None] * cov + (beta * g_evidence - g_energy)[:, None] * force
        if g.force is not None:
            by_field = by_field - g.force
        return by_field.to(field.dtype), -cov_energy - g_evidence * energy, None, None

    @staticmethod
    @_nested
    def jvp(ctx: Any, saved: list[Tensor], d_field: Tensor | None, d_beta: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        field, beta, force, energy, *sums = saved
        dh = torch.zeros_like(field) if d_field is None else d_field
        db = torch.zeros_like(beta) if d_beta is None else d_beta
        v, u = beta[:, None] * dh.double(), -db
        cov, cov_energy = _cumulant(field, beta, v[:, None], u[:, None], tuple(sums), ctx.states, ctx.backend)
        pull = (force * dh).double().sum(1)
        unknown = torch.full_like(beta, torch.nan)  # forward mode cannot know whether they are used
        d_mean = cov.to(field.dtype)
        derivatives = (beta * pull - db * energy, d_mean, d_mean - dh, cov_energy - pull, beta * cov_energy)
        return (*derivatives, unknown, unknown, *(None,) * (len(Moments._fields) - RAW))


def _cumulant(
    field: Tensor, beta: Tensor, v: Tensor, u: Tensor, sums: tuple[Tensor, ...], states: States, backend: str
) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, Tensor] = _Cumulant.apply(field, beta, v, u, *sums, states, backend)
    return out


class _Cumulant(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, v: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        *sums, states, backend = rest
        out: tuple[Tensor, Tensor] = states.call("cumulant", backend, field.double(), beta, _as_sums(*sums), v, u)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.states, ctx.backend = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g_cov: Tensor | None, g_energy: Tensor | None) -> tuple[Tensor | None, ...]:
        field, beta, v, u, *sums, cov, _ = ctx.saved_tensors
        _refuse_third(v)
        none = (None,) * (len(sums) + 2)
        gv = torch.zeros_like(cov) if g_cov is None else g_cov
        gu = torch.zeros_like(beta) if g_energy is None else g_energy
        rest = (tuple(sums), ctx.states, ctx.backend)
        by_v, by_u = _cumulant(field, beta, gv[:, None], gu[:, None], *rest)
        if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1]):
            return None, None, by_v[:, None], by_u[:, None], *none
        both = torch.cat([v, gv[:, None]], 1), torch.cat([u, gu[:, None]], 1)
        third, third_energy = _cumulant(field, beta, *both, *rest)
        by_field = beta[:, None] * third - gu[:, None] * cov - u * by_v
        return by_field.to(field.dtype), -third_energy, by_v[:, None], by_u[:, None], *none

    @staticmethod
    @_nested
    def jvp(ctx: Any, saved: list[Tensor], *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        field, beta, v, u, *sums, cov, _ = saved
        _refuse_third(v)
        dh, db, dv, du = (
            torch.zeros_like(x) if d is None else d for x, d in zip((field, beta, v, u), tangents[:4], strict=True)
        )
        rest = (tuple(sums), ctx.states, ctx.backend)
        dh = dh.double()
        first, first_energy = _cumulant(field, beta, dv - u[..., None] * dh[:, None], du, *rest)
        both = torch.cat([v, (beta[:, None] * dh)[:, None]], 1), torch.cat([u, -db[:, None]], 1)
        third, third_energy = _cumulant(field, beta, *both, *rest)
        return first + third, first_energy + third_energy - (dh * cov).sum(1)


def _refuse_third(v: Tensor) -> None:
    if v.shape[1] != 1:
        raise NotImplementedError("log_evidence and mean are twice differentiable, covariance and C v once, no further")


class _Covariance(_Function):
    @staticmethod
    def forward(field: Tensor, beta: Tensor, *rest: Any) -> Tensor:
        *sums, states, backend = rest
        out: Tensor = states.call("covariance", backend, field.double(), beta, _as_sums(*sums))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.states, ctx.backend = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def _third(ctx: Any, tensors: Any, probes: Tensor, energy_probes: Tensor) -> tuple[Tensor, Tensor]:
        """K3(y, y_j, v_j.y + u_j E) for every j: probes (B, D, D), energy_probes (B, D) -> (B, D, D), (B, D)."""
        size = tensors[0].shape[1]
        field, beta, *sums = (x.repeat_interleave(size, 0) for x in tensors)
        unit = torch.eye(size, dtype=torch.float64, device=field.device).repeat(len(tensors[0]), 1)
        v = torch.stack([unit, probes.flatten(0, 1)], 1)
        u = torch.stack([torch.zeros_like(beta), energy_probes.flatten()], 1)
        third, third_energy = _cumulant(field, beta, v, u, tuple(sums), ctx.states, ctx.backend)
        return third.unflatten(0, (-1, size)), third_energy.unflatten(0, (-1, size))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        field, beta, *sums = ctx.saved_tensors
        symmetric = (grad + grad.mT) / 2
        third, third_energy = _Covariance._third(ctx, ctx.saved_tensors, symmetric, symmetric.new_zeros(symmetric.shape[:2]))
        by_field = beta[:, None] * third.sum(1)
        return by_field.to(field.dtype), -third_energy.sum(1), *(None,) * (len(sums) + 2)

    @staticmethod
    @_nested
    def jvp(ctx: Any, saved: list[Tensor], d_field: Tensor | None, d_beta: Tensor | None, *_: None) -> Tensor:
        field, beta, *_sums = saved
        dh = torch.zeros_like(field) if d_field is None else d_field
        db = torch.zeros_like(beta) if d_beta is None else d_beta
        size = field.shape[1]
        v = (beta[:, None] * dh.double())[:, None].expand(-1, size, -1)
        third, _ = _Covariance._third(ctx, saved, v, -db[:, None].expand(-1, size))
        return third
