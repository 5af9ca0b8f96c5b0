"""The code that a run was trained by, complete enough to have it again: what differs from the commit, every package.

It is kept once for all runs that share it, under `code/DIGEST/` of the run that stands for them: a study's parent run,
or a run of its own. Each run names it by the tag `besom.code`.
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

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "code"
DIFF, PACKAGES = "changes.diff", "packages.txt"
CODE, COMMIT, DIRTY, DIFF_IS = "besom.code", "mlflow.source.git.commit", "besom.git.dirty", "besom.git.diff"
RECORDED = "recorded"
"""What the tag DIFF_IS says of changes that are recorded as they are."""
LARGEST_DIFF = 2**20
"""How many bytes of changes are recorded; more are probably data that no .gitignore names."""

# However the user has set git up, it is to be a diff that `git apply` takes.
_AS_A_PATCH = (
    "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty", "--submodule=short",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CodeState:
    """The commit, what differs from it, and the packages: `tags` for every run, `files` by their names."""

    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where the files lie among the artifacts."""
        return f"{FOLDER}/{self.tags[CODE]}"

    def log(self, client: MlflowClient, run_id: str) -> None:
        """Make the files artifacts of a run."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in self.files.items():
                place = Path(scratch) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(text.encode("utf-8", "surrogateescape"))
            client.log_artifacts(run_id, scratch, self.folder)


def code_state(*, besides: Sequence[Path] = ()) -> CodeState:
    """Return the state of the git repository of the current folder, `besides` apart, and of this environment.

    Secrets are masked as `without_secrets` does it.
    """
    tags, diff = _repository(besides)
    files = {PACKAGES: packages()} | ({DIFF: diff} if diff else {})
    what = json.dumps([tags, files], sort_keys=True)
    return CodeState(tags={**tags, CODE: hashlib.sha256(what.encode()).hexdigest()[:12]}, files=files)


@cache
def packages() -> str:
    """Return the environment's packages as pip's requirements; one that came from elsewhere with its address.

    Comments name the version of Python, and packages that are imported from a working tree: no index has those.
    """
    found: dict[str, str] = {}
    for one in metadata.distributions():
        name, version = one.metadata["Name"], one.metadata["Version"]
        if name:  # the first on the path is the one that is imported
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), _requirement(one, name, version))
    lines = [f"# Python {platform.python_version()}", *sorted(found.values(), key=str.lower)]
    return mask("\n".join(lines) + "\n")


def _requirement(one: metadata.Distribution, name: str, version: str) -> str:
    origin = json.loads(one.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return f"# {name}=={version}{_own_state() if name == 'besom' else ''} from a working tree"
    if vcs := origin.get("vcs_info"):
        return f"{name} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    if origin.get("url", "").startswith("https://"):
        return f"{name} @ {origin['url']}"
    return f"{name}=={version}"


def _own_state() -> str:
    """What tells two states of Besom's own working tree apart, as part of its version."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"+{digest.hexdigest()[:8]}"


class _NotRecorded(Exception):
    """The changes are not to be recorded; the message says why."""


def _repository(besides: Sequence[Path]) -> tuple[dict[str, str], str]:
    """The tags that tell of the repository, and the changes since its commit as far as they are recorded."""
    try:
        root, commit = Path(git("rev-parse", "--show-toplevel").rstrip("\n")), git("rev-parse", "HEAD").strip()
    except GitFailed:
        return {}, ""  # no repository, none with a commit, or no git
    try:
        diff = _diff(root, besides)
    except (GitFailed, OSError, _NotRecorded) as error:
        return {COMMIT: commit, DIRTY: "true", DIFF_IS: f"not recorded: {error}"}, ""
    if not diff:
        return {COMMIT: commit, DIRTY: "false"}, ""
    shown = without_secrets(diff)
    how = RECORDED if shown == diff else f"{RECORDED} with secrets masked"
    return {COMMIT: commit, DIRTY: "true", DIFF_IS: how}, shown


def _diff(root: Path, besides: Sequence[Path]) -> str:
    """What makes the commit the tree as it is, with the files that git does not know yet."""
    at = ("--no-optional-locks", "-C", str(root))
    left_out = [":(exclude,glob)**/__pycache__/**", *(f":(exclude,literal){path}" for path in _inside(besides, root))]
    listed = git(*at, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *left_out).split("\0")
    new = [path for path in listed if path and not path.endswith("/")]  # with one, it is a repository of its own
    _check_size(sum((root / path).lstat().st_size for path in new))
    with tempfile.TemporaryDirectory() as scratch:
        # In an index of our own, so that theirs stays as it is: there git knows the new files too. Its time is the
        # same, by which git tells what was written so shortly after that it must look into it.
        index = {"GIT_INDEX_FILE": shutil.copy2(root / git(*at, "rev-parse", "--git-path", "index").strip(), scratch)}
        if new:
            add = ("add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
            git("--literal-pathspecs", *at, *add, given="\0".join(new), settings=index)
        output = Path(scratch) / DIFF  # not into memory: it may be of any size
        git(*at, "diff", *_AS_A_PATCH, f"--output={output}", "HEAD", "--", ".", *left_out, settings=index)
        _check_size(output.stat().st_size)
        return output.read_bytes().decode("utf-8", "surrogateescape")


def _check_size(size: int) -> None:
    if size > LARGEST_DIFF:
        raise _NotRecorded(f"they are too large, {size:,} bytes")


def _inside(paths: Sequence[Path], root: Path) -> Iterator[str]:
    for path in paths:
        if path.resolve().is_relative_to(root.resolve()) and path.resolve() != root.resolve():
            yield path.resolve().relative_to(root.resolve()).as_posix()
