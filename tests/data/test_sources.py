"""Sources: tensors that fit together, and the embedded data sets."""

from __future__ import annotations

import math
import os
import struct
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from besom.data import Source, Task
from besom.data.images import read_idx
from besom.data.sources import breast_cancer, diabetes, digits, fashion_mnist, line, mnist, random
from besom.errors import ConfigError, DataError

UNREACHABLE = ("http://127.0.0.1:9/",)
real_data = pytest.mark.skipif("BESOM_DATA_DIR" not in os.environ, reason="BESOM_DATA_DIR is not set")


def write_images(raw, part, count):
    """Write `count` images whose bytes are all the image's number, labelled 0, 1, 2, …, as MNIST's files."""
    raw.mkdir(parents=True, exist_ok=True)
    pixels = b"".join(bytes([i]) * 784 for i in range(count))
    (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
    labels = bytes(i % 10 for i in range(count))
    (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels)


def small_mnist(root):
    raw = root / "MNIST" / "raw"
    write_images(raw, "train", 30)
    write_images(raw, "t10k", 20)
    return raw


@pytest.mark.parametrize(
    ("read", "task", "shape", "classes", "out_features"),
    [
        (digits, Task.MULTICLASS, (1797, 64), 10, 10),
        (diabetes, Task.REGRESSION, (442, 10), 0, 1),
        (breast_cancer, Task.BINARY, (569, 30), 2, 1),
        (line, Task.REGRESSION, (10, 1), 0, 1),
        (random, Task.REGRESSION, (100, 2), 0, 1),
    ],
)
def test_embedded_data_sets_have_their_published_shapes(read, task, shape, classes, out_features):
    source = read()
    assert source.x.shape == shape
    assert source.x.dtype == torch.float32
    assert source.y.dtype == (torch.float32 if task is Task.REGRESSION else torch.int64)
    assert (source.spec.task, source.spec.in_features) == (task, shape[1])
    assert (len(source.spec.classes), source.spec.out_features) == (classes, out_features)


def test_pictures_have_as_many_pixels_as_features():
    assert digits().picture == (8, 8)
    usual = {"name": "dots", "task": Task.REGRESSION, "x": torch.zeros(3, 6), "y": torch.zeros(3)}
    usual |= {"feature_names": tuple("abcdef")}
    assert Source(**usual, picture=(2, 3)).picture == (2, 3)
    with pytest.raises(DataError, match=r"^dots: 6 features are no picture of 4 x 2 pixels; "):
        Source(**usual, picture=(4, 2))


def test_a_source_is_read_once():
    assert digits() is digits()


def test_digits_know_their_largest_value():
    assert digits().x.max() == digits().max_value == 16


def test_diabetes_keeps_its_own_units():
    assert diabetes().x[0, 0] == 59  # years of age


def test_line_is_y_equals_x_plus_1():
    assert torch.equal(line().y, line().x[:, 0] + 1)
    assert line().x[:3, 0].tolist() == [-3, 31, -11]


def test_random_has_a_test_part_of_the_same_shape_and_other_numbers_in_0_to_1():
    source = random(rows=50, features=3, seed=4)
    assert source.test_x.shape == source.x.shape == (50, 3)
    assert not torch.equal(source.test_x, source.x)
    assert 0 <= min(source.x.min(), source.y.min()) <= max(source.x.max(), source.y.max()) < 1
    assert not torch.equal(random(rows=50, features=3, seed=5).x, source.x)


def test_random_without_rows_is_refused():
    with pytest.raises(ConfigError, match=r"data\.source\.rows: 0 is below 1"):
        random(rows=0)


def test_mnist_files_that_are_there_are_read_without_the_network_and_nothing_is_written(tmp_path):
    raw = small_mnist(tmp_path)
    source = mnist(root=str(tmp_path), mirrors=UNREACHABLE)
    assert (source.x.shape, source.x.dtype) == ((30, 784), torch.uint8)
    assert source.x[7].tolist() == [7] * 784
    assert source.test_y.tolist() == [i % 10 for i in range(20)]
    assert source.class_names == tuple("0123456789")
    assert sorted(path.name for path in raw.parent.iterdir()) == ["raw"]


def test_the_data_folder_comes_from_the_environment(tmp_path, monkeypatch):
    small_mnist(tmp_path)
    monkeypatch.setenv("BESOM_DATA_DIR", str(tmp_path))
    assert len(mnist(download=False).y) == 30


def test_no_data_and_no_network_is_one_line_that_names_folder_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError) as caught:
        fashion_mnist(root=str(tmp_path), mirrors=UNREACHABLE)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/FashionMNIST/raw: train-images-idx3-ubyte is missing")
    assert "refused" in message
    assert "connect to the network once, or point BESOM_DATA_DIR at a folder that holds FashionMNIST/raw" in message
    assert "\n" not in message


def test_no_data_where_downloading_is_off_names_the_switch(tmp_path):
    with pytest.raises(DataError, match=r"is missing; set data\.source\.download=true, or point BESOM_DATA_DIR"):
        mnist(root=str(tmp_path), download=False)


@pytest.mark.parametrize("there", [True, False])
def test_only_a_download_needs_torchvision(tmp_path, monkeypatch, there):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it were not installed
    if there:
        small_mnist(tmp_path)
        assert len(mnist(root=str(tmp_path)).y) == 30
        return
    with pytest.raises(DataError, match=r"is missing, and torchvision, .*; install torchvision, or point BESOM_DATA"):
        mnist(root=str(tmp_path))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_what_was_written_as_idx_is_read_whole_or_refused(shape, data):
    values = data.draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    content = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some-idx-ubyte"
        path.write_bytes(content)
        read = read_idx(path)
        assert (read.dtype, list(read.shape), bytes(read.flatten().tolist())) == (torch.uint8, shape, values)
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(ValueError, match=r"^some-idx-ubyte: "):
            read_idx(path)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_torn_file_is_refused_with_its_folder(tmp_path, keep):
    raw = small_mnist(tmp_path)
    torn = raw / "train-images-idx3-ubyte"
    torn.write_bytes(torn.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"MNIST/raw: a file is torn \(.*delete the folder and connect"):
        mnist(root=str(tmp_path), mirrors=UNREACHABLE)


def test_images_without_their_labels_are_refused_as_torn(tmp_path):
    raw = small_mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 3) + bytes(3))
    with pytest.raises(DataError, match="20 images, 3 labels"):
        mnist(root=str(tmp_path), mirrors=UNREACHABLE)


@real_data
@pytest.mark.data
@pytest.mark.parametrize(("read", "first_label", "class_name"), [(mnist, 5, "0"), (fashion_mnist, 9, "T-shirt/top")])
def test_the_real_images_are_60000_to_train_and_10000_to_test(read, first_label, class_name):
    source = read(download=False)
    assert (source.x.shape, source.test_x.shape) == ((60000, 784), (10000, 784))
    assert (source.x.dtype, int(source.x.max())) == (torch.uint8, 255)
    assert int(source.y[0]) == first_label
    assert source.class_names[0] == class_name
    assert source.y.bincount(minlength=10).min() > 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(3)}, r"x \[3\] and y \[3\] do not fit 2 feature names"),
        ({"y": torch.zeros(4, dtype=torch.int64)}, r"x \[3, 2\] and y \[4\]"),
        ({"x": torch.zeros(0, 2), "y": torch.zeros(0)}, "n at least 1"),
        ({"y": torch.tensor([0, 1, 2])}, "more than the class indices 0 to 1"),
        ({"y": torch.tensor([0.0, 1.0, 1.0])}, "give int64 indices"),
        ({"class_names": ("a",)}, "1 class names do not make a binary task"),
        ({"test_x": torch.zeros(3, 2)}, "give both or neither"),
        ({"test_x": torch.zeros(3, 1), "test_y": torch.zeros(3)}, r"x \[3, 1\] and y \[3\]"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused_by_name(changes, message):
    fit = {
        "name": "mine",
        "task": Task.BINARY,
        "x": torch.zeros(3, 2),
        "y": torch.tensor([0, 1, 1]),
        "feature_names": ("a", "b"),
        "class_names": ("no", "yes"),
    }
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        Source(**(fit | changes))
