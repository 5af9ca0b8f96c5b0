"""Commands that are forked, beside the same commands as they are started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forking import Forked, run

CODES = {
    "its process": """
import json, os, resource, signal, sys, threading
print(json.dumps({
    "arguments": sys.argv, "path": sys.path, "original": sys.orig_argv, "name": __name__,
    "file": globals().get("__file__"),
    "package": __package__, "main": sys.modules["__main__"].__dict__ is globals(), "folder": os.getcwd(),
    "environment": dict(os.environ), "zone": __import__("time").tzname, "threads": len(threading.enumerate()),
    "signals": {one.name: str(signal.getsignal(one)).split(" at ")[0] for one in signal.Signals},
    "blocked": [one.name for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "limits": [resource.getrlimit(getattr(resource, one)) for one in dir(resource) if one.startswith("RLIMIT")],
    "mask": os.umask(0), "session": os.getsid(0) == os.getpid(), "group": os.getpgrp() == os.getpid(),
    "files": sorted(file for file in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{file}")),
    "buffers": [sys.stdout.line_buffering, sys.stderr.line_buffering], "input": sys.stdin.read(),
}, indent=1))
""",
    "a code": "import sys; print('out'); sys.exit(3)",
    "a large code": "import sys; sys.exit(256 + 7)",
    "words": "import sys; sys.exit('said at the end')",
    "an error": "def fail():\n    raise ValueError('no luck')\n\nfail()",
    "a key": "raise KeyboardInterrupt",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "what comes last": """
import atexit, sys, threading, time
atexit.register(lambda: print("at exit"))
threading.Thread(target=lambda: (time.sleep(0.1), print("in a thread"))).start()
print("in main", end="")
""",
    "a full disk": "import sys; sys.stdout = open('/dev/full', 'w'); print('lost')",
}


def ended(done: subprocess.CompletedProcess[str]) -> tuple[int, str, list[str]]:
    """How a command ended, without what differs by the version of Python.

    From 3.13 on, a traceback shows the source of `-c`, and an error at exit is printed once more.
    """
    lines = [line for line in done.stderr.splitlines() if "<frozen runpy>" not in line and "ignored" not in line]
    return done.returncode, done.stdout, [*dict.fromkeys(line for line in lines if not line.startswith("    "))]


@pytest.mark.parametrize("how", ["as a script", "as a module", "in a line"])
@pytest.mark.parametrize("what", CODES)
def test_a_forked_command_is_as_one_that_was_started(tmp_path: Path, what: str, how: str):
    (tmp_path / "own.py").write_text(CODES[what])
    command = {"as a script": ["own.py"], "as a module": ["-m", "own"], "in a line": ["-c", CODES[what]]}[how]
    whole = [sys.executable, *command, "--flag", "x=1"]
    changes = {"OWN": "1", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "TZ": "Asia/Kolkata"}
    (tmp_path / "typed").write_text("typed\n")
    results = []
    for start in (run, subprocess.run):
        with (tmp_path / "typed").open() as typed:
            options = {"cwd": tmp_path, "env": {**os.environ, **changes}, "stdin": typed, "timeout": 60}
            text = {} if start is run else {"text": True}
            results.append(ended(start(whole, capture_output=True, **options, **text)))
    assert results[0] == results[1]


def test_a_forked_command_is_awaited_and_ended_as_one_that_was_started():
    with Forked[str]([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        assert os.getsid(process.pid) == process.pid
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    process.kill()  # nothing once it was waited for


def test_what_an_interpreter_is_told_at_its_start_is_told_to_one_that_starts():
    line = [sys.executable, "-c", "import os, sys; print(sys.flags.optimize, 'mlflow' in sys.modules)"]
    for environment, said in (({}, "0 True"), ({"PYTHONOPTIMIZE": "1"}, "1 False")):
        assert run(line, env={**os.environ, **environment}, capture_output=True, timeout=60).stdout.strip() == said
