"""Damage the shipped sweeps and configs at random, and count the answers of `besom sweep --dry-run`.

    python bench/torn_files.py [COUNT] [SEED]

Each must give exit code 0, or 2 with one to three lines that name file and key.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from besom.cli import main as besom
from tests.mutations import Torn, riddle, torn_files

LIMIT_S = 5.0  # processor time of an answer; nobody waits longer


def main(count: int, seed: int) -> int:
    """Print the answers that are not clear, and the counts; return 1 if there are any."""
    counts = Counter[str]()
    slowest = 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        besom(["sweep", "digits", "--dry-run"])  # imports everything before the first measurement
    for number, torn in zip(range(count), torn_files(seed), strict=False):
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            code, told = answer(torn, Path(folder))
            taken = time.process_time() - began
            slowest = max(slowest, taken)
        wrong = riddle(code, told) or (f"it took {taken:.0f} s" if taken > LIMIT_S else None)
        if os.environ.get("SHOW_ALL"):
            print(f"... {number}: {torn.what}: {taken:.1f} s\n{told[-300:]}", flush=True)
        counts["a riddle" if wrong else f"exit {code}"] += 1
        if wrong:
            print(f"--- {number}: {torn.what}: {wrong}\n{told[-2000:]}", flush=True)
    print(f"{count} files of seed {seed}: {dict(counts)}; the slowest took {slowest:.1f} s of processor time")
    return 1 if counts["a riddle"] else 0


def answer(torn: Torn, folder: Path) -> tuple[int, str]:
    """Return the exit code of a dry run, and its stderr."""
    arguments = torn.write(folder)
    errors = io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = besom(["sweep", *arguments, "--dry-run"])
    except Exception:
        return 1, errors.getvalue() + traceback.format_exc()
    finally:
        os.chdir("/")
    return code, errors.getvalue()


if __name__ == "__main__":
    raise SystemExit(main(*(int(one) for one in (*sys.argv[1:], *("1000", "0")[len(sys.argv) - 1 :]))))
