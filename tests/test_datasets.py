"""Named data sets, files of every kind that is read, and errors that name what was wrong."""

import gzip
import struct

import numpy as np
import pytest
import torch

import fastthermo as ft
from fastthermo.datasets import load, read_idx


def idx_bytes(array: np.ndarray) -> bytes:
    code = {"u1": 8, "i4": 12, "f8": 14}[array.dtype.str[1:]]
    return (
        bytes([0, 0, code, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 5, 4)).astype(np.uint8)


@pytest.mark.parametrize(("name", "shape", "top"), [("digits", (1797, 8, 8), 16), ("mnist-5k", (5000, 28, 28), 255)])
def test_named_data_are_bytes_with_labels_and_scale_to_minus_one_and_one(name, shape, top):
    data = load(name)
    assert data.states.shape == shape
    assert data.states.dtype == np.uint8
    assert data.states.max() == top
    assert sorted(set(data.labels)) == list(range(10))
    values = data.ensemble().data()
    assert (values.min(), values.max()) == pytest.approx((-1, 1))


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    reference = load_digits()
    data = load("digits")
    np.testing.assert_array_equal(data.states, reference.images)
    np.testing.assert_array_equal(data.labels, reference.target)


def test_a_missing_named_data_set_says_how_to_bring_it(monkeypatch, tmp_path):
    monkeypatch.setattr("fastthermo.datasets.FASHION_FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("FASTTHERMO_FASHION_MNIST", raising=False)
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        load("fashion-mnist")


def test_fashion_mnist_is_read_from_its_idx_files(monkeypatch, tmp_path, images):
    labels = np.arange(12, dtype=np.uint8)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    monkeypatch.setenv("FASTTHERMO_FASHION_MNIST", str(tmp_path))
    data = load("fashion-mnist")
    np.testing.assert_array_equal(data.states, np.concatenate([images, images]))
    np.testing.assert_array_equal(data.labels, np.concatenate([labels, labels]))


def test_every_file_format_gives_the_same_states_and_labels(tmp_path, images):
    labels = np.arange(12) % 3
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    np.savetxt(tmp_path / "labels.txt", labels, fmt="%d")
    np.savez(tmp_path / "a.npz", images=images, y=labels)
    torch.save((torch.from_numpy(images), torch.from_numpy(labels)), tmp_path / "pair.pt")
    torch.save({"data": torch.from_numpy(images), "targets": torch.from_numpy(labels)}, tmp_path / "dict.pt")
    (tmp_path / "a-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / "a-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    for name, extra in (
        ("a.npy", "labels.npy"),
        ("a.npy", "labels.txt"),
        ("a.npy", "a.npz"),
        ("a.npy", "pair.pt"),
        ("a.npz", None),
        ("pair.pt", None),
        ("dict.pt", None),
        ("a-ubyte", "labels.npy"),
        ("a-ubyte.gz", "labels.npy"),
    ):
        data = load(tmp_path / name, None if extra is None else tmp_path / extra)
        np.testing.assert_array_equal(data.states, images)
        np.testing.assert_array_equal(data.labels.astype(int), labels)
        assert (data.scale, data.shift) == (2 / 255, -1)


def test_bytes_keep_the_shift_or_scale_that_their_file_tells(tmp_path):
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    for told, scale, shift in (({"shift": 5.0}, 1.0, 5.0), ({"scale": 0.5}, 0.5, 0.0)):
        np.savez(tmp_path / "a.npz", states=images, **told)
        data = load(tmp_path / "a.npz")
        assert (data.scale, data.shift) == (scale, shift)


def test_the_scale_of_a_file_may_be_an_array_of_one_number_and_no_more(tmp_path):
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.savez(tmp_path / "one.npz", states=images, scale=[0.5])
    assert load(tmp_path / "one.npz").scale == 0.5
    np.savez(tmp_path / "two.npz", states=images, scale=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"two\.npz: cannot be read"):
        load(tmp_path / "two.npz")


def test_tensors_are_read_in_bfloat16_and_with_gradients(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4)
    for saved in (tensor.bfloat16(), tensor.clone().requires_grad_()):
        torch.save(saved, tmp_path / "a.pt")
        np.testing.assert_array_equal(load(tmp_path / "a.pt").states, tensor)
    torch.save(tensor.to_sparse(), tmp_path / "sparse.pt")
    with pytest.raises(ValueError, match=r"sparse\.pt: cannot be read as \.pt"):
        load(tmp_path / "sparse.pt")


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (1, 8, 8)])
def test_grey_images_are_images_wherever_their_channel_stands(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(3, *shape)))
    assert load(tmp_path / "a.npy").image_shape == (8, 8)


def test_names_of_classes_are_read_whole(tmp_path):
    """A # is no comment, a quoted comma no column, and a byte order mark no letter."""
    np.save(tmp_path / "a.npy", np.eye(4))
    (tmp_path / "names.csv").write_bytes(b'\xef\xbb\xbfC\r\nC#\r\n"C, old"\r\nC\r\n')
    assert load(tmp_path / "a.npy", tmp_path / "names.csv").labels.tolist() == ["C", "C#", "C, old", "C"]


def test_a_saved_ensemble_is_a_data_set(tmp_path, images):
    ensemble = ft.Ensemble(images, scale=0.5, shift=3.0)
    ensemble.save(tmp_path / "e.npz")
    data = load(tmp_path / "e.npz")
    np.testing.assert_array_equal(data.ensemble().data(), ensemble.data())


@pytest.mark.parametrize("dtype", ["u1", "i4", "f8"])
def test_idx_files_of_other_types_are_read(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "f").write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "f"), array)


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)


NAN = np.ones((3, 2))
NAN[1, 0] = np.nan


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("none.npy", None, ValueError, "digits, mnist-5k, fashion-mnist"),
        ("text.npy", np.array([["a", "b"]]), TypeError, "real numbers"),
        ("empty.npy", np.zeros((0, 3)), ValueError, "empty"),
        ("flat.npy", np.arange(5.0), ValueError, "shape"),
        ("nan.npy", NAN, ValueError, r"nan at \[1, 0\]"),
        ("constant.npy", np.ones((4, 3)), ValueError, "constant"),
        ("broken.npy", b"not numpy", ValueError, "cannot be read"),
        ("broken.npz", b"PK\x03\x04 not a zip", ValueError, "cannot be read"),
        ("broken.pt", b"not torch", ValueError, "cannot be read"),
        ("letters.pt", b"abc", ValueError, "cannot be read"),
        ("broken-ubyte", b"\0\0\x08\x03short", ValueError, "cannot be read"),
        ("cut-ubyte", b"\0\0\x08\x01\0\0\0\x09abc", ValueError, "promises"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, content, error, says):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(error, match=says) as caught:
        load(path)
    assert name in str(caught.value)


def test_a_pickle_is_refused(tmp_path):
    torch.save({"states": object()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="only tensors"):
        load(tmp_path / "evil.pt")


def test_labels_of_another_length_are_refused(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(5))
    with pytest.raises(ValueError, match=r"labels: wanted shape \(1797,\)"):
        load("digits", tmp_path / "labels.npy")
    with pytest.raises(ValueError, match="labels: wanted a file"):
        load("digits", tmp_path / "absent.npy")


def test_numbers_whose_squares_overflow_are_refused_by_the_file(tmp_path):
    np.save(tmp_path / "huge.npy", np.array([[1e200, 0.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"huge\.npy: wanted numbers whose squares are finite, got 1e\+200"):
        load(tmp_path / "huge.npy")
