"""The documents: links lead somewhere, commands are ones that Besom takes, the pages of commands are current."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from besom.cli import main
from besom.cli.flags import SweepFlags
from besom.cli.groups import COMMANDS
from docs.pages import FOLDER, pages

ROOT = Path(__file__).parents[1]
WRITTEN = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
GENERATED = sorted(FOLDER.glob("*.md"))
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

_LINK = re.compile(r"\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^ {0,2}((?:besom|make)(?: .*)?)$", re.MULTILINE)
_INLINE = re.compile(r"`((?:besom|make) [^`…]+)`")

_PLACEHOLDER = re.compile(r"=[A-Z]\b")

READERS_OWN = ("my_conf", "tumours", "digits_best", "spirals", "NAME", "OTHER_STUDY")
"""Configs and sweeps that the reader is to write first."""


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def commands(document: Path) -> Iterator[list[str]]:
    """The command lines of a document, as the shell hands them over; behind two spaces comes what explains them."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"\$\w+", "0", text_of(document)))
    lines = [line for block in _FENCE.findall(text) for line in _LINE.findall(block)]
    lines += _INLINE.findall(_FENCE.sub("", text).replace("\n", " "))
    for line in lines:
        command, *_ = re.split(r"\s{2,}|;|\|", line.strip())
        yield shlex.split(command, comments=True)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", [*WRITTEN, *GENERATED], ids=named)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", text_of(document))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", WRITTEN, ids=named)
def test_every_command_is_one_that_besom_takes(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # An example's page is about its own configs; nothing is written where a command is only composed.
    monkeypatch.chdir(document.parent if document.parent.parent.name == "examples" else tmp_path)
    (tmp_path / "houses.csv").write_text("rooms,price\n1,2\n", encoding="utf-8")
    for program, *words in commands(document):
        said = shlex.join([program, *words])
        if program == "make":
            assert {word for word in words[:1] if "=" not in word} <= TARGETS, said
        elif len(words) < 2:
            assert words[:1] in ([], *([command] for command in COMMANDS)), said
        elif words[0] in ("train", "sweep"):
            if not any(own in word for own in READERS_OWN for word in words) and not _PLACEHOLDER.search(said):
                assert takes(*words) == 0, f"{said}: {capsys.readouterr().err}"
        elif words[0] != "-sc":
            # In an empty folder there is nothing to be found, but how it was asked for must be right.
            main(words)
            assert "--help" not in capsys.readouterr().err, said


def test_contributing_names_every_folder_of_the_package_and_paths_that_exist() -> None:
    text = text_of(ROOT / "CONTRIBUTING.md")
    folders = {f"{path.parent.name}/" for path in (ROOT / "src" / "besom").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"^\| `(\w+/)` \|", text, re.MULTILINE))
    for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
        paths = re.findall(r"`([\w./]+(?:\.\w+|/))`", row)
        room = ROOT / "src" / "besom" / paths[0] if paths else ROOT
        for path in paths:
            if not path.startswith(("besom.", "test=")) and "NAME" not in path:
                assert any((folder / path).exists() for folder in (ROOT, ROOT / "src" / "besom", room)), path


@cache  # several documents have the same command
def takes(*words: str) -> int:
    """The exit code of a training or a sweep that composes its config and goes no further."""
    if "-m" in words:
        words = ("sweep", "digits", *(word for word in words[1:] if word != "-m"))
    flags = SweepFlags.read(words)[1]
    shows = {"--cfg", "--info", "--help", "--hydra-help"} & set(flags)
    return main([*flags, *([] if shows else ["--cfg", "job"])])


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the pages are of an older argparse, which lays out otherwise")
def test_the_pages_of_commands_are_what_their_help_prints() -> None:
    written = {path.name: text_of(path) for path in FOLDER.glob("*.md")}
    assert written == pages(), "make docs writes them anew"
