"""The code that a run was trained with: the commit, the uncommitted changes, every package; enough to restore it.

It is stored once for all runs that share it, under `code/DIGEST/` of a study's parent run, or of a run outside of a
study. Each run refers to it by the tag `besom.code`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from besom.secrets.masks import mask, without_secrets
from besom.system.git import GitFailed, git
from besom.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "code"
DIFF, PACKAGES = "changes.diff", "packages.txt"
RECORDED = "recorded"
"""The value of Tag.DIFF for changes that are recorded unaltered."""
LARGEST_DIFF = 2**20
"""The limit for recorded changes, in bytes; a larger diff is probably data that no .gitignore names."""

# The diff must be one that `git apply` accepts, whatever the user's git config.
_AS_A_PATCH = (
    "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty", "--submodule=short",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CodeState:
    """The commit, the changes since then, and the packages: `tags` for every run, `files` by their names."""

    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The artifact folder of the files."""
        return f"{FOLDER}/{self.tags[Tag.CODE]}"

    def log(self, client: MlflowClient, run_id: str) -> None:
        """Log the files as artifacts of a run."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in self.files.items():
                place = Path(scratch) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(text.encode("utf-8", "surrogateescape"))
            client.log_artifacts(run_id, scratch, self.folder)


def code_state(*, besides: Sequence[Path] = ()) -> CodeState:
    """Return the state of the git repository of the current folder, without `besides`, and of this environment.

    Secrets are masked by `without_secrets`.
    """
    tags, diff = _repository(besides)
    files = {PACKAGES: packages()} | ({DIFF: diff} if diff else {})
    what = json.dumps([tags, files], sort_keys=True)
    return CodeState(tags={**tags, Tag.CODE: hashlib.sha256(what.encode()).hexdigest()[:12]}, files=files)


@cache
def packages() -> str:
    """Return the environment's packages as pip requirements; those not from an index with their URL.

    Comments name the Python version, and packages imported from a working tree, which no index has.
    """
    listed: dict[str, str] = {}
    for package in metadata.distributions():
        text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
        name, version = _field(text, "Name"), _field(text, "Version")
        if name:  # the first on the path is the one that is imported
            listed.setdefault(re.sub(r"[-_.]+", "-", name).lower(), _requirement(package, name, version))
    lines = [f"# Python {platform.python_version()}", *sorted(listed.values(), key=str.lower)]
    return mask("\n".join(lines) + "\n")


def _field(text: str, name: str) -> str:
    """Return a field of a package's metadata; `package.metadata` would parse the whole text, at 25 times the cost."""
    found = re.search(rf"^{name}:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return found[1] if found else ""


def _requirement(package: metadata.Distribution, name: str, version: str) -> str:
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return f"# {name}=={version}{_own_state() if name == 'besom' else ''} from a working tree"
    if vcs := origin.get("vcs_info"):
        return f"{name} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    if origin.get("url", "").startswith("https://"):
        return f"{name} @ {origin['url']}"
    return f"{name}=={version}"


def _own_state() -> str:
    """Return a version suffix that identifies the state of Besom's own working tree."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"+{digest.hexdigest()[:8]}"


class _NotRecorded(Exception):
    """The changes cannot be recorded; the message is the reason."""


def _repository(besides: Sequence[Path]) -> tuple[dict[str, str], str]:
    """Return the tags of the repository, and the changes since its commit as far as they are recorded."""
    try:
        root, commit = Path(git("rev-parse", "--show-toplevel").rstrip("\n")), git("rev-parse", "HEAD").strip()
    except GitFailed:
        return {}, ""  # no repository, no commit yet, or no git
    try:
        diff = _diff(root, besides)
    except (GitFailed, OSError, _NotRecorded) as error:
        return {Tag.COMMIT: commit, Tag.DIRTY: "true", Tag.DIFF: f"not recorded: {error}"}, ""
    if not diff:
        return {Tag.COMMIT: commit, Tag.DIRTY: "false"}, ""
    shown = without_secrets(diff)
    how = RECORDED if shown == diff else f"{RECORDED} with secrets masked"
    return {Tag.COMMIT: commit, Tag.DIRTY: "true", Tag.DIFF: how}, shown


def _diff(root: Path, besides: Sequence[Path]) -> str:
    """Return the diff from the commit to the working tree, untracked files included."""
    at = ("--no-optional-locks", "-C", str(root))
    left_out = [":(exclude,glob)**/__pycache__/**", *(f":(exclude,literal){path}" for path in _inside(besides, root))]
    listed = git(*at, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *left_out).split("\0")
    new = [path for path in listed if path and not path.endswith("/")]  # a trailing slash marks a nested repository
    _check_size(sum((root / path).lstat().st_size for path in new))
    with tempfile.TemporaryDirectory() as scratch:
        # A copy of the index, so that the user's stays as it is while the new files are added. copy2 keeps its time:
        # git compares the contents of files that were written too shortly before or after it.
        index = {"GIT_INDEX_FILE": shutil.copy2(root / git(*at, "rev-parse", "--git-path", "index").strip(), scratch)}
        if new:
            add = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
            git("--literal-pathspecs", *at, *add, given="\0".join(new), settings=index)
        output = Path(scratch) / DIFF  # not into memory: it may be large
        git(*at, "diff", *_AS_A_PATCH, f"--output={output}", "HEAD", "--", ".", *left_out, settings=index)
        _check_size(output.stat().st_size)
        return output.read_bytes().decode("utf-8", "surrogateescape")


def _check_size(size: int) -> None:
    if size > LARGEST_DIFF:
        raise _NotRecorded(f"they are too large, {size:,} bytes")


def _inside(paths: Sequence[Path], root: Path) -> Iterator[str]:
    """Yield those of the paths that are below `root`, relative to it."""
    for path in paths:
        if path.resolve().is_relative_to(root.resolve()) and path.resolve() != root.resolve():
            yield path.resolve().relative_to(root.resolve()).as_posix()
