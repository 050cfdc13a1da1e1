"""The door: NumPy or torch in any layout gives the same numbers, in the caller's kind, shape and dtype."""

from typing import Any

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo._arrays import spread

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(20, 12))
FIELD = RNG.normal(size=(5, 12))
BETA = np.geomspace(0.1, 10, 5)
SCALARS = [
    "log_evidence",
    "log_partition",
    "free_energy",
    "regularised_free_energy",
    "energy",
    "regularised_energy",
    "entropy",
    "heat_capacity",
    "participation",
    "n_eff",
    "log_rest",
]
ENS = ft.Ensemble(STATES)
WANT = ft.boltzmann(ENS, FIELD, BETA)
ALL = [*SCALARS, "mean", "force", "dominant"]


def assert_state(found: Any, want: Any = WANT, rtol: float = 1e-12) -> None:
    for name in ALL:
        a, b = getattr(found, name), getattr(want, name)
        np.testing.assert_allclose(np.asarray(a).reshape(np.shape(b)), b, rtol=rtol, atol=rtol, err_msg=name)


LAYOUTS = {
    "contiguous": lambda x: x,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, 0)[::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "list": lambda x: x.tolist(),
    "torch": torch.from_numpy,
    "torch columns": lambda x: torch.from_numpy(np.asfortranarray(x)),
    "torch strided": lambda x: torch.from_numpy(np.repeat(x, 3, 0))[::3],
    "torch negative": lambda x: torch._neg_view(torch.from_numpy(-x)),
    "torch expanded": lambda x: torch.from_numpy(x)[None].expand(2, *x.shape)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_states_come_in_any_layout(layout: str) -> None:
    ens = ft.Ensemble(LAYOUTS[layout](STATES))
    assert_state(ft.boltzmann(ens, FIELD, BETA))
    np.testing.assert_allclose(np.asarray(ens.data([3, 1])), STATES[[3, 1]])
    np.testing.assert_allclose(np.asarray(ens.draw(4, 0)), ENS.draw(4, 0))
    assert len(ens.split(np.arange(20) % 2)[0].data()) == 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fields_come_in_any_layout(layout: str) -> None:
    assert_state(ft.boltzmann(ENS, LAYOUTS[layout](FIELD), BETA))
    np.testing.assert_allclose(
        np.asarray(ft.covariance(ENS, LAYOUTS[layout](FIELD), BETA)), ft.covariance(ENS, FIELD, BETA), rtol=1e-12
    )


@pytest.mark.parametrize("layout", ["contiguous", "strided", "reversed", "read-only", "list", "torch", "torch strided"])
def test_weights_and_temperatures_come_in_any_layout(layout: str) -> None:
    weights = np.log(RNG.dirichlet(np.ones(20)))
    want = ft.boltzmann(ft.Ensemble(STATES, weights), FIELD, BETA)
    assert_state(ft.boltzmann(ft.Ensemble(STATES, LAYOUTS[layout](weights)), FIELD, LAYOUTS[layout](BETA)), want)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shape", [(12,), (1, 12), (5, 12), (5, 3, 4), (5, 1, 3, 4), (3, 4), (0, 12), (0, 3, 4)])
def test_shapes_go_in_and_out(kind: str, shape: tuple[int, ...]) -> None:
    single = shape in ((12,), (3, 4))
    batch = () if single else shape[:1]
    field = np.resize(FIELD, shape)
    h = field if kind == "numpy" else torch.from_numpy(field)
    state = ft.boltzmann(ENS, h, 0.5)
    for array, want in ((state.mean, shape), (state.force, shape), (state.field, shape)):
        assert isinstance(array, type(h))
        assert tuple(array.shape) == want
    for name in (*SCALARS, "dominant", "error_bound", "beta"):
        assert tuple(getattr(state, name).shape) == batch
        assert isinstance(getattr(state, name), np.ndarray | np.generic if kind == "numpy" else torch.Tensor)
    assert tuple(ft.covariance(ENS, h, 0.5).shape) == (*batch, 12, 12)
    assert tuple(ENS.cumulant(h, 0.5, np.ones(12)).shape) == shape
    w, index = ENS.top_weights(h, 0.5, 2)
    assert tuple(w.shape) == tuple(index.shape) == (*batch, 2)
    rows = ft.boltzmann(ENS, field.reshape(-1, 12), 0.5)
    np.testing.assert_array_equal(np.asarray(state.mean).reshape(-1, 12), rows.mean)
    np.testing.assert_allclose(np.ravel(state.log_partition), rows.log_partition, rtol=1e-14)


def test_image_states_and_flat_fields_may_be_mixed() -> None:
    images = ft.Ensemble(STATES.reshape(20, 3, 4))
    assert_state(ft.boltzmann(images, FIELD, BETA))
    state = ft.boltzmann(images, FIELD.reshape(5, 3, 4), BETA)
    assert_state(state)
    assert state.mean.shape == (5, 3, 4)
    assert images.draw(2).shape == (2, 3, 4)
    assert images.shape == (3, 4)


@pytest.mark.parametrize(
    "beta", [0.5, np.float32(0.5), np.array(0.5), np.full(5, 0.5), torch.tensor(0.5), [0.5] * 5, [0.5]]
)
def test_temperatures_are_one_or_one_a_query(beta: Any) -> None:
    assert_state(ft.boltzmann(ENS, FIELD, beta), ft.boltzmann(ENS, FIELD, 0.5))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("states", [np.uint8, np.float16, np.float32, np.float64, np.int64, np.bool_])
def test_vectors_keep_the_precision_of_the_field(
    kind: Any, dtype: Any, states: Any, exact: Any, plain: Any, budget: Any, distance: Any
) -> None:
    data = (2 * STATES).astype(int) % (2 if states == np.bool_ else 5)
    field = kind(FIELD.astype(dtype))
    state = ft.boltzmann(ft.Ensemble(data.astype(states)), field, BETA)
    given = (data, np.full(20, -np.log(20)), np.asarray(field, np.float64), BETA)
    precision = torch.from_numpy(np.zeros(1, dtype)).dtype
    truth, crude = exact(*given), plain(*given, precision)
    for name in ("mean", "force"):
        found = getattr(state, name)
        assert found.dtype == field.dtype
        assert (distance(found, getattr(truth, name)) <= budget(name, truth, crude, precision)).all()
    double = plain(*given, torch.float64)
    for name in ("log_evidence", "entropy", "participation"):
        found = getattr(state, name)
        assert str(found.dtype).endswith("float64")
        error, size = np.abs(np.asarray(found) - getattr(truth, name)), np.abs(getattr(truth, name))
        single = precision != torch.float64 and states not in (np.float64, np.int64, np.bool_)
        allowed = 1e-6 * np.maximum(1, size) if single else budget(name, truth, double, torch.float64)
        assert (error <= allowed).all()
    assert ft.covariance(ft.Ensemble(data.astype(states)), field, BETA).dtype == field.dtype


def test_bfloat16_fields_stay_so() -> None:
    h = torch.from_numpy(FIELD).bfloat16()
    assert ft.boltzmann(ENS, h, 1.0).mean.dtype == torch.bfloat16
    assert_state(ft.boltzmann(ENS, h.double(), 1.0), ft.boltzmann(ENS, h.double().numpy(), 1.0))


def test_integer_fields_give_float64() -> None:
    h = np.arange(12)
    for field in (h, torch.from_numpy(h), h.tolist()):
        assert str(ft.boltzmann(ENS, field, 1.0).mean.dtype).endswith("float64")
    np.testing.assert_array_equal(ft.boltzmann(ENS, h, 1.0).mean, ft.boltzmann(ENS, h.astype(float), 1.0).mean)


def test_states_keep_their_type_and_fields_decide_the_kind() -> None:
    ens = ft.Ensemble(torch.from_numpy(STATES))
    assert isinstance(ens.draw(2), torch.Tensor)
    assert isinstance(ENS.draw(2), np.ndarray)
    assert isinstance(ft.boltzmann(ens, FIELD, 1.0).mean, np.ndarray)
    assert isinstance(ft.boltzmann(ENS, torch.from_numpy(FIELD), 1.0).mean, torch.Tensor)


@pytest.mark.parametrize("backend", ["numba", "reference", None])
def test_backends_give_the_same_numbers(backend: str | None) -> None:
    assert_state(ft.boltzmann(ENS, FIELD, BETA, backend=backend))
    np.testing.assert_allclose(
        ft.covariance(ENS, FIELD, BETA, backend=backend), ft.covariance(ENS, FIELD, BETA), rtol=1e-11
    )
    found = ENS.cumulant(FIELD, BETA, FIELD, FIELD[0], backend=backend)
    np.testing.assert_allclose(found, ENS.cumulant(FIELD, BETA, FIELD, FIELD[0]), rtol=1e-11, atol=1e-13)
    assert (ENS.top_weights(FIELD, BETA, 3, backend)[1] == ENS.top_weights(FIELD, BETA, 3)[1]).all()


def test_error_bound_is_met_or_raised_upon() -> None:
    assert (ft.boltzmann(ENS, FIELD, BETA, rtol=1e-9).error_bound < 1e-9).all()
    with pytest.raises(ValueError, match=r"rtol: 1e-20 cannot be met"):
        ft.boltzmann(ENS, FIELD, BETA, rtol=1e-20)
    with pytest.raises(ValueError, match=r"rtol: 1e-09 cannot be met.*float32"):
        ft.boltzmann(ENS, FIELD.astype(np.float32), BETA, rtol=1e-9)


def test_fast_is_at_least_as_good_as_the_precision_of_the_states(
    exact: Any, plain: Any, budget: Any, distance: Any
) -> None:
    states = STATES.astype(np.float32)
    state = ft.boltzmann(ft.Ensemble(states), FIELD, BETA, precision="fast")
    given = (states, np.full(20, -np.log(20)), FIELD, BETA)
    truth, crude = exact(*given), plain(*given, torch.float32)
    assert (distance(state.force, truth.force) <= budget("force", truth, crude, torch.float32)).all()


def test_gradients_reach_fields_of_any_shape_and_precision() -> None:
    h = torch.from_numpy(FIELD.reshape(5, 3, 4)).requires_grad_()
    b = torch.from_numpy(BETA).requires_grad_()

    def quantities(h: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        s = ft.boltzmann(ENS, h, b)
        return s.mean, s.log_partition, s.free_energy, s.energy, s.entropy

    assert torch.autograd.gradcheck(quantities, (h, b))
    half = h.detach().half().requires_grad_()
    ft.boltzmann(ENS, half, 1.0).mean.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.float16


def test_scaled_data_have_the_gradients_of_the_data_they_stand_for() -> None:
    pixels = RNG.integers(0, 255, (8, 3)).astype(np.uint8)
    one, two = ft.Ensemble(pixels, scale=2 / 255, shift=-1.0), ft.Ensemble(pixels * (2 / 255) - 1)
    grads = []
    for ens in (one, two):
        h, b = (
            torch.full((1, 3), 0.1, dtype=torch.float64, requires_grad=True),
            torch.tensor([3.0]).double().requires_grad_(),
        )
        s = ft.boltzmann(ens, h, b)
        value = (s.mean.sin().sum() + s.log_partition + s.energy + s.entropy).sum()
        grads.append(torch.autograd.grad(value, (h, b)))
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(*grads, strict=True))


def test_largest_weights_carry_no_gradient() -> None:
    h, b = torch.from_numpy(FIELD).requires_grad_(), torch.from_numpy(BETA).requires_grad_()
    w, _ = ENS.top_weights(h, b, 2)
    assert not w.requires_grad


def test_one_number_for_all_meets_arrays_on_any_device() -> None:
    x = torch.empty(3, 2, 2, device="meta")
    assert (x / spread(torch.tensor(2.0), x)).shape == x.shape
    assert spread(np.ones(3), np.ones((3, 2, 2))).shape == (3, 1, 1)
