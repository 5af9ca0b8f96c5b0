"""Scaling: what each method promises, and that a scaler is fitted once and used on anything."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from besom.data.scaling import Method, Normalize, fit_scaler, parse_scaling
from besom.errors import ConfigError

cells = st.floats(-1e6, 1e6, width=32)
tables = (
    st.integers(1, 4)
    .flatmap(lambda columns: st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=1, max_size=30))
    .map(torch.tensor)
)
bytes_ = st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=1, max_size=9).map(
    lambda rows: torch.tensor(rows, dtype=torch.uint8)
)


@given(tables)
def test_minmax_takes_each_training_column_to_0_and_1_and_a_constant_one_to_0(x):
    scaled = fit_scaler(x, Method.MINMAX).apply(x)
    varies = x.amax(0) > x.amin(0)
    assert torch.allclose(scaled.amin(0), torch.zeros(x.shape[1]), atol=1e-6)
    assert torch.allclose(scaled.amax(0), varies.float(), atol=1e-6)


@given(st.integers(2, 50), st.floats(-100, 100), st.floats(0.1, 100), st.integers(0, 9))
def test_standard_takes_each_training_column_to_mean_0_and_deviation_1(n, mean, std, seed):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * std + mean
    scaled = fit_scaler(x, Method.STANDARD).apply(x)
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-2)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(3), atol=1e-2)


@given(cells, st.integers(1, 200), st.sampled_from([Method.MINMAX, Method.STANDARD]))
def test_a_constant_column_becomes_0_and_does_not_blow_up_other_parts(value, n, method):
    scaler = fit_scaler(torch.full((n, 1), value), method)
    assert scaler.apply(torch.full((n, 1), value)).abs().max() == 0
    assert scaler.scale.item() == 1


@given(tables, st.sampled_from([*Method, Normalize(mean=0.5, std=0.5)]))
def test_scaled_features_are_finite_float32_and_the_input_is_left_alone(x, scaling):
    before = x.clone()
    scaled = fit_scaler(x, scaling, max_value=255.0).apply(x)
    assert scaled.dtype == torch.float32
    assert scaled.shape == x.shape
    assert scaled.isfinite().all()
    assert torch.equal(x, before)


@given(tables, st.sampled_from(list(Method)))
def test_columns_that_are_not_numeric_stay_as_they_are(x, method):
    numeric = torch.arange(x.shape[1]) % 2 == 1
    scaled = fit_scaler(x, method, numeric=numeric, max_value=16.0).apply(x)
    assert torch.equal(scaled[:, ~numeric], x[:, ~numeric])


@given(bytes_)
def test_unit_and_mean_and_std_are_what_torchvision_makes_of_an_image(x):
    to_tensor = x.to(torch.float32).div(255)
    unit = fit_scaler(x, Method.UNIT, max_value=255.0).apply(x)
    normalized = fit_scaler(x, Normalize(mean=0.5, std=0.5), max_value=255.0).apply(x)
    assert torch.equal(unit, to_tensor)
    assert torch.allclose(normalized, (to_tensor - 0.5) / 0.5, atol=1e-6)


def test_mean_and_std_apply_to_the_features_themselves_where_no_largest_value_is_known():
    scaled = fit_scaler(torch.zeros(1, 1), Normalize(mean=2.0, std=4.0)).apply(torch.tensor([[10.0]]))
    assert scaled.item() == 2.0


def test_other_parts_are_scaled_by_the_training_parts_statistics():
    scaler = fit_scaler(torch.tensor([[0.0], [10.0]]), Method.MINMAX)
    assert scaler.apply(torch.tensor([[20.0], [-5.0]])).flatten().tolist() == [2.0, -0.5]


def test_wide_images_are_standardized_as_narrow_ones_are():
    x = torch.randint(0, 256, (50, 150), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scaler = fit_scaler(x, Method.STANDARD)
    assert torch.allclose(scaler.shift, x.double().mean(0).float())
    assert torch.allclose(scaler.scale, x.double().std(0, correction=0).float())


@pytest.mark.parametrize(
    ("value", "scaling"),
    [
        ("none", Method.NONE),
        (None, Method.NONE),
        ("minmax", Method.MINMAX),
        ({"mean": 0.5, "std": 1}, Normalize(mean=0.5, std=1.0)),
        (Normalize(mean=0.0, std=1.0), Normalize(mean=0.0, std=1.0)),
    ],
)
def test_config_values_are_parsed(value, scaling):
    assert parse_scaling(value) == scaling


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("zscore", r"data\.scaling: 'zscore' is unknown; choose none, unit, minmax, standard or \{mean"),
        (3, r"data\.scaling: 3 is unknown"),
        ({"mean": 0.5}, r"data\.scaling: .* is unknown"),
        ({"mean": "a", "std": 1}, r"data\.scaling\.mean: 'a' is not a number"),
        ({"mean": float("nan"), "std": 1}, r"data\.scaling\.mean: nan is not a number"),
        ({"mean": 0, "std": 0}, r"data\.scaling\.std: 0 is not above 0"),
    ],
)
def test_values_that_are_no_scaling_are_refused_with_the_choices(value, message):
    with pytest.raises(ConfigError, match=message):
        parse_scaling(value)


def test_unit_is_refused_where_no_largest_value_is_known():
    with pytest.raises(ConfigError, match=r"data\.scaling: unit needs .*; use minmax"):
        fit_scaler(torch.zeros(1, 1), Method.UNIT)
