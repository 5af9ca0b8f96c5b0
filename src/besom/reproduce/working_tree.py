"""The recorded code of a run: a git working tree at its commit, with its uncommitted changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from besom.config.paths import installed_folders
from besom.errors import BesomError
from besom.system.git import GitFailed, git
from besom.system.locks import holder, locked
from besom.tracking.code import DIFF, RECORDED
from besom.tracking.runs import RecordedRun
from besom.tracking.sources import SourceEntry
from besom.tracking.tags import Tag

_PATIENCE_S = 600  # for a repository of many gigabytes
_AS_IT_IS = ("-c", "core.hooksPath=/dev/null")  # a hook may do anything, such as building the project


@dataclass(frozen=True, kw_only=True)
class Code:
    """The recorded code of a run.

    A commit, the uncommitted changes, and the imported source files, with their contents if those were kept.
    """

    run_id: str
    commit: str
    diff: bytes
    sources: tuple[tuple[SourceEntry, bytes | None], ...] = ()

    @classmethod
    def of(cls, run: RecordedRun, files: Mapping[str, bytes]) -> Code:
        """Return the code of a run from its tags and files. Raises BesomError if it was not recorded completely."""
        here = "compare with the code of today by --here"
        if Tag.COMMIT not in run.tags:
            raise BesomError(
                f"run '{run.run_id}' was recorded outside of a git repository: its code is not known; {here}"
            )
        if not re.fullmatch(r"[0-9a-f]{7,64}", run.tags[Tag.COMMIT]):  # git would parse a leading - as a flag
            raise BesomError(f"run '{run.run_id}' names no commit but '{run.tags[Tag.COMMIT]}'; {here}")
        how = run.tags.get(Tag.DIFF, "not recorded") if run.tags.get(Tag.DIRTY) == "true" else RECORDED
        if how != RECORDED:
            raise BesomError(f"run '{run.run_id}' was trained with uncommitted changes that were {how}; {here}")
        if not files:
            raise BesomError(f"run '{run.run_id}' has no list of its packages among its artifacts; {here}")
        sources = tuple((entry, files.get(entry.kept)) for entry in SourceEntry.read(files) if entry.place)
        return cls(run_id=run.run_id, commit=run.tags[Tag.COMMIT], diff=files.get(DIFF, b""), sources=sources)

    def complete(self, tree: Path) -> None:
        """Write the imported files that differ from the tree, because they were edited while a sweep ran.

        Raises BesomError if their contents were not kept unaltered.
        """
        for entry, content in self.sources:
            file = tree / entry.place
            if file.is_file() and _matches(entry, file.read_bytes()):
                continue
            inside = file.resolve().is_relative_to(tree.resolve())
            if content is None or not inside or not _matches(entry, content):
                raise BesomError(
                    f"run '{self.run_id}' was trained by another {entry.place} than its commit and changes have, and "
                    "it was not recorded as it was; compare with the code of today by --here"
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _matches(entry: SourceEntry, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == entry.digest


@dataclass(frozen=True, kw_only=True)
class WorkingTree:
    """A git working tree at `folder`, of the repository at `root`."""

    folder: Path
    root: Path

    def environment(self) -> dict[str, str]:
        """Return environment variables with which a Python started in the current folder imports this code first.

        Relative paths still start at the current folder, where data and store are. Git's variables name the working
        tree, so that the state of this code is recorded.
        """
        git_dir = git("-C", str(self.folder), "rev-parse", "--absolute-git-dir").strip()
        path = os.pathsep.join(self._import_path())
        git_settings = {"GIT_DIR": git_dir, "GIT_WORK_TREE": str(self.folder)}
        return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", **git_settings}

    def _import_path(self) -> list[str]:
        """Return this process's import path without installed packages, and with the tree's folders if there."""
        installed = installed_folders()
        path = []
        for entry in [*map(Path, sys.path), self.root / "src", Path.cwd()]:
            folder = entry.resolve()
            if any(folder.is_relative_to(site) for site in installed):
                continue
            if folder.is_relative_to(self.root):
                folder = self.folder / folder.relative_to(self.root)
            if folder.exists():
                path.append(str(folder))
        return list(dict.fromkeys(path))


@contextmanager
def working_tree(code: Code, folder: Path) -> Iterator[WorkingTree]:
    """Create a working tree of the current folder's repository inside `folder`; remove it after the `with` block.

    Raises BesomError if there is no repository, or it does not have the commit.
    """
    root = _repository_with(code)
    _remove_abandoned(folder)
    tree = folder / f"{code.commit[:10]}-{os.getpid()}"
    with locked(_lock(tree), wait=True):
        try:
            try:
                add = ("worktree", "add", "--quiet", "--detach", str(tree), code.commit)
                git(*_AS_IT_IS, *add, patience_s=_PATIENCE_S)
                if code.diff:
                    patch = code.diff.decode("utf-8", "surrogateescape")
                    git("-C", str(tree), "apply", "--binary", "--whitespace=nowarn", given=patch)
            except GitFailed as error:
                raise BesomError(
                    f"the code of run '{code.run_id}' cannot be had again ({error}); see that git worktree works here"
                ) from error
            code.complete(tree)
            yield WorkingTree(folder=tree, root=root)
        finally:
            _remove(tree)
            _lock(tree).unlink(missing_ok=True)


def _repository_with(code: Code) -> Path:
    try:
        root = Path(git("rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    except GitFailed as error:
        raise BesomError(
            f"--exact: there is no git repository here ({error}); run it where run '{code.run_id}' was trained"
        ) from error
    try:
        git("cat-file", "-e", f"{code.commit}^{{commit}}")
    except GitFailed as error:
        raise BesomError(
            f"--exact: the repository {root} does not have commit {code.commit}; get it: git fetch --all, or "
            f"git fetch origin {code.commit}"
        ) from error
    return root


def _lock(tree: Path) -> Path:
    return tree.with_suffix(".lock")


def _remove_abandoned(folder: Path) -> None:
    """Remove working trees whose process was killed."""
    for lock in folder.glob("*.lock"):
        if holder(lock) is None:
            _remove(lock.with_suffix(""))
            lock.unlink(missing_ok=True)


def _remove(tree: Path) -> None:
    with contextlib.suppress(GitFailed):  # twice: also one that was locked while it was created
        git("worktree", "remove", "--force", "--force", str(tree), patience_s=_PATIENCE_S)
    shutil.rmtree(tree, ignore_errors=True)
