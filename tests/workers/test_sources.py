from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

# In a process of its own: a hook stays for as long as its process lasts.
SCRIPT = """
import json, sys
from pathlib import Path
from besom.workers.sources import Sources
sources = Sources()
sources.watch()
sys.path[:0] = ["src", "lib"]
told = []
import pkg.net
Path("src/pkg/part.py").write_text("y = 3\\n")
told.append(sources.take())
import json.tool, lazy
told.append(sources.take())
texts = lambda one: None if one.content is None else one.content.decode()
print(json.dumps([[(one.name, one.digest, texts(one)) for one in found] for found in told]))
"""


def test_what_is_told_is_what_was_imported_from_folders_of_the_users_own(tmp_path: Path):
    files = {"src/pkg/__init__.py": "", "src/pkg/net.py": "from pkg.part import y\n", "src/pkg/part.py": "y = 2\n"}
    files |= {"lazy.py": "z = 1\n", "lib/unused.py": "w = 1\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, capture_output=True, text=True)
    first, second = json.loads(done.stdout)
    roots = {"pkg/__init__.py": "src/pkg/__init__.py", "pkg/net.py": "src/pkg/net.py", "pkg/part.py": "src/pkg/part.py"}
    assert first == [[name, sha256(files[path].encode()).hexdigest(), files[path]] for name, path in roots.items()]
    # What was imported stays so, whatever becomes of the file; a content is told once.
    lazy = ["lazy.py", sha256(b"z = 1\n").hexdigest(), "z = 1\n"]
    assert second == [lazy, *([name, digest, None] for name, digest, _ in first)]
