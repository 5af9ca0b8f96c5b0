from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from besom.reproduce.changes import CodeFiles, Kind, changes, unrecorded
from besom.tracking.code import DIFF, PACKAGES
from besom.tracking.runs import RecordedRun

CLEAN = {"mlflow.source.git.commit": "a" * 40, "besom.git.dirty": "false"}
DIRTY = {"mlflow.source.git.commit": "a" * 40, "besom.git.dirty": "true", "besom.git.diff": "recorded"}


def run(tags: Mapping[str, str], digest: str | None = None) -> RecordedRun:
    return RecordedRun(run_id="x", name="one", status="FINISHED", config={}, tags=tags, digest=digest, history={})


def told(
    before: RecordedRun, now: RecordedRun, files_before: CodeFiles | None = None, files_now: CodeFiles | None = None
) -> list[tuple[Kind, str]]:
    return [(change.kind, change.what) for change in changes(before, now, files_before or {}, files_now or {})]


def listed(*lines: str) -> CodeFiles:
    """A list of packages that is as long as a real one."""
    same = [f"package{number}==1.0" for number in range(30)]
    return {PACKAGES: "\n".join(["# Python 3.11.4", *same, *lines]).encode()}


def patch(**files: str) -> CodeFiles:
    diff = "".join(f"diff --git a/{name}.py b/{name}.py\n--- a/{name}.py\n+{text}\n" for name, text in files.items())
    return {DIFF: diff.encode()}


def test_a_run_has_not_changed_against_itself():
    same = run({**DIRTY, "besom.device": "cpu", "besom.determinism": "{}"}, digest="f" * 32)
    assert told(same, same, {**listed(), **patch(net="x")}, {**listed(), **patch(net="x")}) == []


def test_another_commit_is_told_from_other_changes_on_the_same_one():
    other = {**CLEAN, "mlflow.source.git.commit": "b" * 40}
    assert told(run(CLEAN), run(other)) == [(Kind.CODE, "commit was aaaaaaaaaa, is bbbbbbbbbb")]
    assert told(run(CLEAN), run({})) == [(Kind.CODE, "commit was aaaaaaaaaa, is unknown")]
    assert told(run(DIRTY), run(CLEAN), patch(net="x", data="y"), {}) == [
        (Kind.CODE, "uncommitted changes differ, in data.py, net.py")
    ]
    assert told(run(DIRTY), run(DIRTY), patch(net="x", data="y"), patch(net="x", data="z")) == [
        (Kind.CODE, "uncommitted changes differ, in data.py")
    ]


def test_changes_that_were_not_recorded_may_differ():
    lost = {**DIRTY, "besom.git.diff": "not recorded: they are too large, 3,000,000 bytes"}
    assert told(run(lost), run(CLEAN)) == [
        (Kind.CODE, "there were uncommitted changes that are not recorded, and may differ")
    ]
    assert told(run(CLEAN), run(lost)) == [
        (Kind.CODE, "there are uncommitted changes that are not recorded, and may differ")
    ]


def test_imported_files_that_differ_are_named_unless_the_changes_name_them():
    def sources(**digests: str) -> CodeFiles:
        lines = (
            f"{digest}\t{name}.py\t{'' if name == 'beside' else f'{name}.py'}\n" for name, digest in digests.items()
        )
        return {"sources.txt": "".join(lines).encode()}

    known = run({**DIRTY, "besom.sources": "recorded"})
    before, now = sources(net="a", same="s", beside="x"), sources(net="b", same="s", beside="y", new="n")
    assert told(known, known, before, now) == [
        (Kind.CODE, "imported source files differ, in beside.py, net.py, new.py")
    ]
    assert told(known, known, {**before, **patch(net="x")}, {**now, **patch(net="y", new="z")}) == [
        (Kind.CODE, "uncommitted changes differ, in net.py, new.py"),
        (Kind.CODE, "imported source files differ, in beside.py"),
    ]
    assert told(run(DIRTY), known, {}, now) == []  # it may, or not


def test_what_a_result_may_depend_on_and_is_not_recorded_is_listed():
    whole = run({"besom.sources": "recorded"}, digest="f" * 32)
    elsewhere = {"data": {"root": "${oc.env:HOME}"}, "tracking": {"uri": "${oc.env:HOME}"}}
    assert unrecorded(replace(whole, config=elsewhere), listed()) == []
    assert unrecorded(replace(whole, config={"model": {"start": "${oc.env:HOME}/x"}}), listed()) == [
        "the environment variables of its config"
    ]
    assert unrecorded(run({}), {}) == ["the source files that were imported", "all packages", "the data"]


def test_packages_that_matter_come_first_and_of_the_others_a_few_are_named():
    before = listed("numpy==2.0", "torch==2.5", "a==1", "b==1", "c==1", "d==1", "# besom==0.1 from a working tree")
    now = listed("numpy==2.1", "torch==2.6", "a==2", "b==2", "c @ git+https://host/c@1", "besom==0.2")
    assert told(run({}), run({}), before, now) == [
        (Kind.PACKAGES, "torch was 2.5, is 2.6"),
        (Kind.PACKAGES, "numpy was 2.0, is 2.1"),
        (Kind.PACKAGES, "besom was 0.1, is 0.2"),
        (Kind.PACKAGES, "other versions of a, b, c and 1 more"),
    ]


def test_of_a_run_without_a_list_the_versions_in_its_tags_are_compared():
    before = run({"besom.version.torch": "2.5", "besom.version.python": "3.11.4"})
    now = run({"besom.version.torch": "2.6", "besom.version.python": "3.11.4"})
    assert told(before, now, {}, listed("torch==2.6")) == [(Kind.PACKAGES, "torch was 2.5, is 2.6")]


def test_data_device_threads_and_precision_are_told_by_their_kind():
    determinism = {"cudnn_benchmark": False, "matmul_precision": "highest"}
    before = run(
        {
            "besom.device": "A100", "besom.threads": "1", "besom.determinism": json.dumps(determinism),
            "besom.cuda": json.dumps({"cuda": "12.4", "driver": "550.1"}),
        },
        digest="f" * 32,
    )  # fmt: skip
    now = run(
        {
            "besom.device": "A100", "besom.threads": "2",
            "besom.determinism": json.dumps({**determinism, "matmul_precision": "high"}),
            "besom.cuda": json.dumps({"cuda": "12.4", "driver": "560.2"}),
        },
        digest="0" * 32,
    )  # fmt: skip
    assert told(before, now) == [
        (Kind.DATA, f"digest was {'f' * 32}, is {'0' * 32}"),
        (Kind.DEVICE, "driver was 550.1, is 560.2"),
        (Kind.THREADS, "threads was 1, is 2"),
        (Kind.PRECISION, "matmul_precision was highest, is high"),
    ]
    assert told(before, run({"besom.device": "cpu"}))[1:3] == [
        (Kind.DEVICE, "device was A100, is cpu"),
        (Kind.DEVICE, "cuda was 12.4, is unknown"),
    ]
