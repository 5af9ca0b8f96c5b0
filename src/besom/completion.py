"""Tab completion: Hydra's own, told which of Besom's commands is being typed."""

from __future__ import annotations

import os

_COMMANDS = ("train", "sweep", "reproduce", "ui")


def adapt_completion(arguments: list[str]) -> list[str]:
    """Turn the call that the shell makes for a completion into one that Hydra can answer.

    Hydra's completion reads the typed line from COMP_LINE and knows an app without commands: the command, and
    the name of a sweep, are taken out of the line.
    """
    if not arguments or arguments[0] not in ("-sc", "--shell-completion"):
        return arguments
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    complete = len(words) + line.endswith(" ")  # the word under the cursor counts
    if "query" not in " ".join(arguments) or not words:
        return ["train", *arguments]
    if complete <= 2 or words[1] not in _COMMANDS[:2]:
        return ["--complete", *_COMMANDS]
    taken = 3 if words[1] == "sweep" else 2
    os.environ["COMP_LINE"] = " ".join([words[0], *words[taken:]]) + (" " if line.endswith(" ") else "")
    return [*words[1:taken], *arguments]
