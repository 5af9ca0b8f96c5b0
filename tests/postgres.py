"""A PostgreSQL server of one's own, on a socket in a folder of its own, for tests that need one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def missing() -> str | None:
    """Why there is no server to be had here, or None."""
    if _programs() is None:
        return "no PostgreSQL server is installed"
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if os.getuid() == 0 and _servant() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Start a server that writes nothing through to the disk; yield the URL of an empty database."""
    programs, servant = _programs(), _servant() if os.getuid() == 0 else None
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="besom-pg-"))  # under pytest's own folder, another user reaches nothing
    who: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if servant is not None:
        shutil.chown(folder, servant, servant)
        who["user"], who["group"], who["extra_groups"] = servant, servant, []
    try:
        initdb = ("-D", "data", "-U", "besom", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync")
        subprocess.run([programs / "initdb", *initdb], check=True, **who)
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        start = [programs / "pg_ctl", "-D", "data", "-w", "-t", "60", "-l", "log", "-o", options, "start"]
        subprocess.run(start, check=True, **who)
        yield f"postgresql+psycopg://besom@/postgres?host={folder}"
    finally:
        subprocess.run([programs / "pg_ctl", "-D", "data", "-m", "immediate", "stop"], check=False, **who)
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of the server's programs, which Debian keeps off PATH."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if (found := shutil.which("initdb")) is not None:
        folders.insert(0, Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


def _servant() -> str | None:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None
