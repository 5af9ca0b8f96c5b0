from __future__ import annotations

from pathlib import Path

import pytest

from besom.config.files import checked
from besom.config.messages import unforeseen
from besom.config.paths import conf_dir, search_path, sweeps_dir
from besom.errors import ConfigError

BOMB = "defaults: [train]\na: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]\n" for before, one in zip("abcdefg", "bcdefgh", strict=True)
)


def look(folder: Path, **texts: str) -> None:
    """Have Hydra's reading of these files, one after the other, look at each before."""
    with search_path([folder]):
        for name, text in texts.items():
            file = folder / f"{name}.yaml"
            file.write_text(text, encoding="utf-8")
            with checked(file, name):
                pass


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("null: 1", "torn.yaml: null: a key is a word, and this is none; name it"),
        ("'': 1", "torn.yaml: '': a key is a word"),
        ("3: 1", "torn.yaml: 3: a key is a word"),
        ("a: {b: [1, {null: 2}]}", "torn.yaml: a.b[1].null: a key is a word"),
        ("hydra: [1]", "torn.yaml: hydra: it holds KEY: VALUE lines"),
        ("hydra:", "torn.yaml: hydra: it holds KEY: VALUE lines"),
        ("defaults: train", "torn.yaml: defaults: a list is needed; write each on a line of its own"),
        ("defaults: [train, null]", "torn.yaml: defaults[1]: 'null' is no name of a config; write such as train or"),
        ("defaults: [train, 3]", "torn.yaml: defaults[1]: '3' is no name of a config"),
        ("defaults: [train, '']", "torn.yaml: defaults[1]: '''' is no name of a config"),
        ("defaults: [train, '???']", "torn.yaml: defaults[1]: '???' names no config; name one"),
        ("defaults: [[train]]", "torn.yaml: defaults[0]: one config, or one GROUP: NAME, is needed"),
        ("defaults: [{data: digits, model: x}]", "torn.yaml: defaults[0]: one config, or one GROUP: NAME, is needed"),
        ("defaults: [{1.5: adamw}]", "torn.yaml: defaults[0]: '1.5' is no name of a config"),
        ("defaults: [{overide data: digits}]", "torn.yaml: defaults[0]: 'overide data' names no group; write it as"),
        ("defaults: [{+data: digits}]", "torn.yaml: defaults[0]: '+data' names no group; write it as"),
        ("defaults: [train, train]", "torn.yaml: defaults[1]: 'train' is there twice; take one out"),
        ("defaults: [{data: a}, {optional data: b}]", "torn.yaml: defaults[1]: 'data' is there twice; take one out"),
        ("a: {b: [x, '${']}", "torn.yaml: a.b[1]: '${' is no interpolation; write ${NAME}, or \\${ for the text"),
        ("defaults: ['a${b']", "torn.yaml: defaults[0]: 'a${b' is no interpolation; write ${NAME}"),
        ("hydra: {sweeper: null}", "torn.yaml: hydra.sweeper: it holds KEY: VALUE lines, not a value or a list"),
        ("defaults: [{data: 3}]", "torn.yaml: defaults[0].data: '3' is no name of a config; write such as data: NAME"),
        ("defaults: [{data: [digits, null]}]", "torn.yaml: defaults[0].data: 'null' is no name of a config"),
        ("defaults: [{data: {a: b}}]", "torn.yaml: defaults[0].data: a list or a mapping is no name of a config"),
        ("a: &a [1, *a]", "torn.yaml: line 1: an alias stands inside of what it is an alias of"),
        (BOMB, "torn.yaml: h: its aliases make 111,111,111 values of the 30 that are written in the file"),
    ],
)
def test_what_hydra_would_answer_with_a_traceback_is_refused_by_file_and_key(tmp_path: Path, text: str, told: str):
    with pytest.raises(ConfigError) as refused:
        look(tmp_path, torn=text)
    assert str(refused.value).startswith(told)
    assert "; " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list\n",
        "a: [torn\n",
        "a: {1: x, true: y}",
        "a: &a {b: 1}\nc: {<<: *a}\n",
        "defaults: [train@here, data: digits, optional model: x, server: '???', _self_]",
        "defaults: [{db@a: x}, {db@b: x}, {override db@a: y}]\na: ['\\${', '${b}', '${c.d:e}', $]",
        "defaults: [{more: [a, b]}, {none: null}, {override db: null}]",
        "defaults: ['/model@a.b: c', {'/schema@_here_': mlp}, {a: '${b}'}, {override /data: digits}]",
    ],
)
def test_what_hydra_reads_or_refuses_with_its_place_passes(tmp_path: Path, text: str):
    look(tmp_path, fine=text)


def test_a_header_that_is_cut_off_is_shown_with_one_that_is_whole():
    said = unforeseen(ValueError("Expected header format: KEY VALUE, got '@pa'"))
    assert said == "the header '# @pa' is none that Hydra can read; write such as # @package _global_"


def test_every_config_that_ships_passes():
    with search_path([]):
        for folder in (conf_dir(), sweeps_dir()):
            for file in folder.rglob("*.yaml"):
                with checked(file, str(file.relative_to(folder))):
                    pass


def test_defaults_that_lead_back_over_other_files_are_refused_with_the_way(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"c\.yaml: .* lead back to itself \(c.yaml -> a.yaml -> b.yaml -> c.yaml"):
        look(tmp_path, a="defaults: [b, d]", b="defaults: [c]", d="defaults: [b]", c="defaults: [d, a]")
    look(tmp_path, a="defaults: [b, c]", b="defaults: [c]", c="defaults: [{override a: b}, _self_]")


def test_an_error_of_pythons_own_while_a_file_is_read_is_told_with_the_file(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("a: 1", encoding="utf-8")
    told = pytest.raises(ConfigError, match=r"^own\.yaml: nobody foresaw this; mend the config or the override$")
    with told, checked(tmp_path / "own.yaml", "own"):
        raise AssertionError("nobody foresaw this")
