"""Scaling of features: statistics from the training part, applied to every part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from besom.errors import ConfigError


class Method(StrEnum):
    """The scalings without parameters; each column is scaled separately."""

    NONE = "none"
    UNIT = "unit"
    MINMAX = "minmax"
    STANDARD = "standard"


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Subtract `mean` and divide by `std`, as torchvision's Normalize does after ToTensor."""

    mean: float
    std: float


Scaling = Method | Normalize


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaler:
    """The `shift` that is subtracted from each column and the `scale` that divides it, both [features].

    Their dtype is float64 for tables, whose features are float64, else float32. Keep the scaler with a model: it
    prepares new inputs.
    """

    shift: Tensor
    scale: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Return (x - shift) / scale as a new float32 tensor [n, features] on the device of `x`."""
        return self.exact(x).to(torch.float32)

    def exact(self, x: Tensor) -> Tensor:
        """Return the result of `apply` before its conversion to float32, in the scaler's precision."""
        precise = x.to(self.shift.dtype) if x.dtype == torch.float64 else x
        return (precise - self.shift.to(x.device)).div_(self.scale.to(x.device))


def parse_scaling(value: object) -> Scaling:
    """Return the scaling of a config value: a name, a mapping of mean and std, or None for none.

    Raises ConfigError naming `data.scaling` and the choices.
    """
    if value is None:
        return Method.NONE
    if isinstance(value, Normalize):
        return value
    if isinstance(value, str) and value in list(Method):
        return Method(value)
    if isinstance(value, Mapping) and set(value) == {"mean", "std"}:
        mean, std = _number("mean", value["mean"]), _number("std", value["std"])
        if std <= 0:
            raise ConfigError(f"data.scaling.std: {std:g} is not above 0; give the spread of the features")
        return Normalize(mean=mean, std=std)
    raise ConfigError(f"data.scaling: {value!r} is unknown; choose {', '.join(Method)} or {{mean: 0.5, std: 0.5}}")


def fit_scaler(x: Tensor, scaling: Scaling, *, numeric: Tensor | None = None, max_value: float | None = None) -> Scaler:
    """Return the scaler of `scaling` for the training features `x` [n, features].

    unit divides by `max_value`; minmax takes each column to 0..1; standard to mean 0 and standard deviation 1 (over n,
    not n - 1); `Normalize` applies to x / max_value, or to x where no `max_value` is known. Columns that `numeric`
    (bool [features]) excludes stay unchanged, and a constant column becomes 0; in float64, so does one whose values
    differ only by rounding. Raises ConfigError for unit with features whose largest value is unknown.
    """
    features = x.shape[1]
    shift = torch.zeros(features, dtype=torch.float64)
    scale = torch.ones(features, dtype=torch.float64)
    match scaling:
        case Method.NONE:
            pass
        case Method.UNIT:
            if max_value is None:
                raise ConfigError(
                    "data.scaling: unit needs features with a known largest value, as images have; use minmax"
                )
            scale.fill_(max_value)
        case Method.MINMAX:
            shift, high = x.amin(dim=0).double(), x.amax(dim=0).double()
            scale = (high - shift).masked_fill(_constant(x), 0.0)
        case Method.STANDARD:
            shift, scale = _mean_and_deviation(x)
        case Normalize(mean=mean, std=std):
            shift.fill_(mean * (max_value or 1.0))
            scale.fill_(std * (max_value or 1.0))
    precision = torch.float64 if x.dtype == torch.float64 else torch.float32
    shift, scale = shift.to(precision), scale.to(precision)
    scale[scale == 0] = 1.0
    if numeric is not None:
        shift[~numeric], scale[~numeric] = 0.0, 1.0
    return Scaler(shift=shift, scale=scale)


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    # In float64, so that the float32 result does not depend on the number of threads of the sum; some columns at a
    # time, so that images need no copy of themselves at eight times the size.
    pairs = [torch.std_mean(columns.double(), dim=0, correction=0) for columns in torch.split(x, 64, dim=1)]
    deviation, mean = (torch.cat(column) for column in zip(*pairs, strict=True))
    # The mean of equal numbers may differ in the last digit, which leaves a deviation that is not quite 0.
    deviation[_constant(x)] = 0.0
    return mean, deviation


def _constant(x: Tensor) -> Tensor:
    """Return which columns have a single value, bool [features]; in float64, 0.3 and 0.1 + 0.2 are equal."""
    low, high = x.aminmax(dim=0)
    if x.dtype != torch.float64:
        return low == high
    return high - low <= 4 * torch.finfo(torch.float64).eps * torch.maximum(low.abs(), high.abs())


def lost_in_float32(exact: Tensor) -> Tensor:
    """Return which columns of scaled features [n, features] float32 changes by more than a thousandth of their spread.

    Different values of these columns would become equal, or noise.
    """
    low, high = exact.aminmax(dim=0)
    error = (exact.to(torch.float32) - exact).abs().amax(dim=0)
    return (error > 1e-3 * (high - low)) & (high > low)


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"data.scaling.{key}: {value!r} is not a number; give one, as in 0.5")
    return float(value)
