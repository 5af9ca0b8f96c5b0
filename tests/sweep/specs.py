"""Specs of sweeps for tests, from keys without their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from besom.sweep.spec import SweepSpec
from besom.sweep.spec_parts import BudgetSpec, DevicesSpec, SearchSpec
from besom.workers.devices import Slot

PARTS = {"search": SearchSpec, "budget": BudgetSpec, "devices": DevicesSpec}


def sweep_spec(**keys: Any) -> SweepSpec:
    """Return the spec of a sweep; `keys` are fields of the spec or of its parts, whose names differ."""
    parts = {}
    for name, part in PARTS.items():
        parts[name] = part(**{field.name: keys.pop(field.name) for field in fields(part) if field.name in keys})
    return SweepSpec(**parts, **keys)


def members_of(spec: SweepSpec, slots: Sequence[Slot]) -> int:
    """Return how many trials each of a sweep's slots may train at once."""
    return spec.devices.members(slots, spec.budget, learns=spec.search.learns)
