"""The differences between a recorded run and its rerun: code, data, packages, device, threads, precision."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from besom.config.checks import flatten
from besom.errors import first_few
from besom.tracking.code import DIFF, PACKAGES, RECORDED
from besom.tracking.runs import RecordedRun
from besom.tracking.sources import SourceEntry
from besom.tracking.tags import Tag, short

CodeFiles = Mapping[str, bytes]
"""The result of `Runs.code` for a run."""

_FIRST = (
    "python", "torch", "pytorch-lightning", "lightning", "numpy", "besom", "torchvision", "torchmetrics",
    "scikit-learn", "scipy", "pandas", "hydra-core", "omegaconf",
)  # fmt: skip
"""Packages that a result probably depends on; of other changed ones, a few are named and the rest is counted."""
_NAMED = 3


class Kind(StrEnum):
    """The kind of a change."""

    CODE = "code"
    CONFIG = "config"
    DATA = "data"
    PACKAGES = "packages"
    DEVICE = "device"
    THREADS = "threads"
    PRECISION = "precision"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change; `what` is a line such as `torch was 2.5.0, is 2.6.0`."""

    kind: Kind
    what: str


def changes(before: RecordedRun, now: RecordedRun, code_before: CodeFiles, code_now: CodeFiles) -> list[Change]:
    """Return what changed between two runs, the likeliest cause of a difference first."""
    return [
        *_code(before, now, code_before, code_now),
        *_data(before.digest, now.digest),
        *_packages(_versions(before, code_before), _versions(now, code_now)),
        *_of_tag(Kind.DEVICE, Tag.DEVICE, before, now),
        *_of_json(Kind.DEVICE, Tag.CUDA, before, now),
        *_of_tag(Kind.THREADS, Tag.THREADS, before, now),
        *_of_json(Kind.PRECISION, Tag.DETERMINISM, before, now),
    ]


def config_changes(before: RecordedRun, now: RecordedRun) -> Iterator[Change]:
    """Yield the change of the config of an app's job, which the app composes anew; Besom's own has none."""
    values = [dict(flatten(run.config)) for run in (before, now)]
    changed = [
        f"{key} was {values[0].get(key, 'not there')}, is {values[1].get(key, 'not there')}"
        for key in dict.fromkeys([*values[0], *values[1]])
        if str(values[0].get(key)) != str(values[1].get(key))
    ]
    if Tag.APP in before.tags and changed:
        yield Change(kind=Kind.CONFIG, what=first_few(changed, _NAMED))


def _code(before: RecordedRun, now: RecordedRun, files_before: CodeFiles, files_now: CodeFiles) -> Iterator[Change]:
    commits = [run.tags.get(Tag.COMMIT, "unknown") for run in (before, now)]
    if commits[0] != commits[1]:
        yield Change(kind=Kind.CODE, what=f"commit was {commits[0][:10]}, is {commits[1][:10]}")
    whole = [
        run.tags.get(Tag.DIRTY) != "true" or run.tags.get(Tag.DIFF, "").startswith(RECORDED) for run in (before, now)
    ]
    if not all(whole):
        which = "are" if whole[0] else "were"
        yield Change(kind=Kind.CODE, what=f"there {which} uncommitted changes that are not recorded, and may differ")
    patches = [_patches(files.get(DIFF, b"")) for files in (files_before, files_now)]
    paths = sorted(path for path in {*patches[0], *patches[1]} if patches[0].get(path) != patches[1].get(path))
    if paths and all(whole):
        yield Change(kind=Kind.CODE, what=f"uncommitted changes differ, in {first_few(paths, _NAMED)}")
    if all(run.tags.get(Tag.SOURCES, "").startswith(RECORDED) for run in (before, now)):
        listed = [{entry.name: entry for entry in SourceEntry.read(files)} for files in (files_before, files_now)]
        names = [name for name in sorted({*listed[0], *listed[1]}) if _differ(name, *listed)]
        told = [name for name in names if all(one.get(name) is None or one[name].place not in paths for one in listed)]
        if told:
            yield Change(kind=Kind.CODE, what=f"imported source files differ, in {first_few(told, _NAMED)}")


def _differ(name: str, before: Mapping[str, SourceEntry], now: Mapping[str, SourceEntry]) -> bool:
    return name not in before or name not in now or before[name].digest != now[name].digest


def unrecorded(before: RecordedRun, files_before: CodeFiles) -> list[str]:
    """Return what a result may depend on but the run does not record, so that a change cannot be detected."""
    lacking = []
    if not before.tags.get(Tag.SOURCES, "").startswith(RECORDED):
        lacking.append("the source files that were imported")
    if PACKAGES not in files_before:
        lacking.append("all packages")
    if before.digest is None:
        lacking.append("the data")
    # The store does not matter, and the digest covers the data.
    decisive = ((key, value) for key, value in flatten(before.config) if not key.startswith(("tracking.", "data.")))
    if any("${oc.env:" in str(value) for _, value in decisive):
        lacking.append("the environment variables of its config")
    return lacking


def _patches(diff: bytes) -> dict[str, str]:
    """Return the parts of a diff by the file that they change."""
    parts = re.split(r"(?m)^diff --git ", diff.decode("utf-8", "replace"))[1:]
    return {part.splitlines()[0].rpartition(" b/")[2].strip('"'): part for part in parts}


def _data(before: str | None, now: str | None) -> Iterator[Change]:
    if before is not None and before != now:
        yield Change(kind=Kind.DATA, what=f"digest was {before}, is {now or 'unknown'}")


def _versions(run: RecordedRun, files: CodeFiles) -> dict[str, str]:
    """Return the versions of all packages by name; for a run without the list, those in its tags."""
    head = f"{Tag.VERSION}."
    tagged = {name.removeprefix(head): version for name, version in run.tags.items() if name.startswith(head)}
    lines = files.get(PACKAGES, b"").decode("utf-8", "replace").splitlines()
    pattern = re.compile(r"(?:# )?([\w.-]+)(?:==| @ | )(\S+)")  # pinned, by address, and `# Python 3.11.4`
    listed = {found[1].lower().replace("_", "-"): found[2] for line in lines if (found := pattern.match(line))}
    return {**tagged, **listed}


def _packages(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    names = {*before, *now} if len(before) > len(_FIRST) else set(before)  # an unlisted one may be unchanged
    changed = sorted(name for name in names if before.get(name) != now.get(name))
    for name in _FIRST:
        if name in changed:
            what = f"{name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
            yield Change(kind=Kind.PACKAGES, what=what)
    if others := [name for name in changed if name not in _FIRST]:
        yield Change(kind=Kind.PACKAGES, what=f"other versions of {first_few(others, _NAMED)}")


def _of_tag(kind: Kind, tag: str, before: RecordedRun, now: RecordedRun) -> Iterator[Change]:
    was, found = before.tags.get(tag), now.tags.get(tag)
    if was is not None and was != found:
        yield Change(kind=kind, what=f"{short(tag)} was {was}, is {found or 'unknown'}")


def _of_json(kind: Kind, tag: str, before: RecordedRun, now: RecordedRun) -> Iterator[Change]:
    was, found = (json.loads(run.tags.get(tag, "{}")) for run in (before, now))
    for key in was:
        if was[key] != found.get(key):
            yield Change(kind=kind, what=f"{key} was {was[key]}, is {found.get(key, 'unknown')}")
