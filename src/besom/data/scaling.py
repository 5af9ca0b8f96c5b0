"""Scaling of features: statistics from the training part, applied to every part alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from besom.errors import ConfigError


class Method(StrEnum):
    """The scalings that need no number from the user; columns are scaled one by one."""

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
    """What was subtracted from and divided into each column: float32 `shift` and `scale`, both [features].

    Keep it with a model: the same two tensors prepare new inputs.
    """

    shift: Tensor
    scale: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Return (x - shift) / scale as a new float32 tensor [n, features] on the device of `x`."""
        return (x - self.shift.to(x.device)).div_(self.scale.to(x.device)).to(torch.float32)


def parse_scaling(value: object) -> Scaling:
    """Return the scaling that a config value stands for: a name, a mapping of mean and std, or None for none.

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
    """Return the scaler that `scaling` makes of the training features `x` [n, features].

    unit divides by `max_value`; minmax takes each column to 0..1; standard to mean 0 and standard deviation
    1 (over n, not n - 1); `Normalize` applies to x / max_value, or to x where no `max_value` is known.
    Columns that `numeric` (bool [features]) leaves out stay as they are, and a constant column becomes 0.
    Raises ConfigError if unit is asked of features whose largest value is unknown.
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
            scale = high - shift
        case Method.STANDARD:
            shift, scale = _mean_and_deviation(x)
        case Normalize(mean=mean, std=std):
            shift.fill_(mean * (max_value or 1.0))
            scale.fill_(std * (max_value or 1.0))
    shift, scale = shift.to(torch.float32), scale.to(torch.float32)
    scale[scale == 0] = 1.0
    if numeric is not None:
        shift[~numeric], scale[~numeric] = 0.0, 1.0
    return Scaler(shift=shift, scale=scale)


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    # In float64, so that the float32 result does not hang on how many threads took the sum; some columns at
    # a time, so that images need no copy of themselves at eight times the size.
    pairs = [torch.std_mean(columns.double(), dim=0, correction=0) for columns in torch.split(x, 64, dim=1)]
    deviation, mean = (torch.cat(column) for column in zip(*pairs, strict=True))
    # The mean of equal numbers may be a last digit off, which leaves a deviation that is not quite 0.
    deviation[x.amin(dim=0) == x.amax(dim=0)] = 0.0
    return mean, deviation


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"data.scaling.{key}: {value!r} is not a number; give one, as in 0.5")
    return float(value)
