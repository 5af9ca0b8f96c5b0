"""A report's page: its content, and that no data of a study can inject markup or scripts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from besom.reports.html.page import page, write
from besom.reports.html.plots.slices import slices
from besom.reports.html.sections import sections
from besom.reports.text.mlflow_note import note
from besom.svg.marks import LETTER
from tests.reports.swept import ACCURACY, LOSS, MODELS, SIZE, grid, report, trial

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
EMPTY = {"meta", "br", "img", "link"}


class Elements(HTMLParser):
    """What a browser would make of a page: each element with its attributes, and the texts of scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)

    def count(self, tag: str, kind: str = "") -> int:
        return sum(name == tag and kind in (attrs.get("class") or "").split() + [""] for name, attrs in self.found)


def pictures(text: str) -> dict[str, ElementTree.Element]:
    """The page's pictures by title; each is read as XML, so it is well formed."""
    found = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    return {str(svg.get("aria-label")): svg for svg in found}


def marks(svg: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [mark for mark in svg.iter() if kind in (mark.get("class") or "").split()]


def test_nothing_that_a_study_brings_along_becomes_part_of_the_page() -> None:
    space = {"model": CategoricalDistribution((EVIL, "b")), "optimizer.lr": CategoricalDistribution((0.1, EVIL))}
    trials = [trial(0.1 * index, space=space, family=EVIL, model=EVIL, optimizer_lr=EVIL) for index in range(4)]
    failed = trial(state=TrialState.FAIL, space=space, reason=EVIL, model="b", optimizer_lr=0.1)
    text = page(report([*trials, failed], name=EVIL))
    elements = Elements(text)
    assert elements.count("script") == 2
    assert json.loads(elements.scripts[0])["0"].count(EVIL) == 2
    assert elements.scripts[1].startswith('"use strict"')
    assert elements.count("img") == 0
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    pictures(text)


def test_the_page_asks_for_nothing_else() -> None:
    elements = Elements(page(report(grid(12))))
    asked = [attrs for _, attrs in elements.found if {"src", "data", "srcset", "action"} & attrs.keys()]
    assert asked == []
    assert elements.count("link") == 0
    policy = next(attrs["content"] for _, attrs in elements.found if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_password_of_a_uri_is_in_no_part_of_the_page_nor_of_the_note() -> None:
    uri = "postgresql://me:secret@db/" + "x" * 30
    space = {"model": CategoricalDistribution((uri, "b"))}
    trials = [trial(0.1 * index, space=space, model=uri if index % 2 else "b") for index in range(12)]
    failed = [trial(state=TrialState.FAIL, space=space, reason=f"no {uri}", model=uri) for _ in range(9)]
    found = report([*trials, *failed])
    assert "secret" not in page(found) + note(found)


def test_every_trial_is_in_the_history_by_how_it_ended() -> None:
    trials = [
        trial(0.5), trial(0.9), trial(0.3, state=TrialState.PRUNED), trial(state=TrialState.FAIL), trial(0.9),
    ]  # fmt: skip
    svg = pictures(page(report(trials)))["val/acc by trial"]
    drawn = {kind: [mark.get("data-t") for mark in marks(svg, kind)] for kind in ("top", "complete", "pruned", "fail")}
    assert drawn == {"top": ["1"], "complete": ["0", "4"], "pruned": ["2"], "fail": ["3"]}


def test_a_line_begins_where_its_trials_parameters_do() -> None:
    trials = [trial(0.5, model=MODELS[0]), trial(0.9, model=MODELS[1], model_depth=2)]
    lines = {mark.get("data-t"): mark for mark in marks(pictures(page(report(trials)))["parameters and val/acc"], "pl")}
    heights = {number: str(mark.get("data-y")).split(",") for number, mark in lines.items()}
    assert [bool(height) for height in heights["0"]] == [False, True, True]  # model.depth, model, val/acc
    assert [bool(height) for height in heights["1"]] == [True, True, True]


@pytest.mark.parametrize(
    ("count", "told"), [(3, "Too few trials to tell: 3 complete, 8 are needed."), (12, "PED-ANOVA")]
)
def test_what_mattered_is_told_by_its_method_or_not_at_all(count: int, told: str) -> None:
    assert told in page(report(grid(count)))


def test_between_few_trials_nothing_is_claimed() -> None:
    space = {name: FloatDistribution(1e-3, 1e-1, log=True) for name in ("optimizer.lr", "model.dropout")}
    found = {}
    for count in (11, 12):
        params = [0.001 * 1.2**index for index in range(count)]
        trials = [trial(x, space=space, optimizer_lr=x, model_dropout=x) for x in params]
        found[count] = page(report(trials))
    fields = {
        count: bool(marks(svg, "field"))
        for count, text in found.items()
        for title, svg in pictures(text).items()
        if " over " in title and " and " in title
    }
    assert fields == {11: False, 12: True}
    assert ("Too few values" in found[11], "Too few values" in found[12]) == (True, False)
    assert "Too few values" in page(report(grid(40)))  # depth has but three


def test_several_objectives_show_their_front() -> None:
    trials = [trial(0.9, 100.0), trial(0.8, 10.0), trial(0.7, 50.0), trial(0.6, 5000.0)]
    found = report(trials, ACCURACY, SIZE)
    svg = pictures(page(found))["val/acc against cost/params"]
    assert [mark.get("data-t") for mark in marks(svg, "top")] == ["0", "1"]
    assert len(marks(svg, "best-line")) == 1
    assert "2 of 4 complete trials are on the Pareto front" in page(found)


def test_trials_far_below_the_others_are_drawn_at_the_edge_and_counted() -> None:
    trials = [trial(1.0 + 0.01 * index) for index in range(11)] + [trial(1e6)]
    text = page(report(trials, LOSS))
    assert "1 trial lies beyond the frame, at 1e+06, drawn at its edge." in text
    pictures(text)


def test_the_labels_of_many_long_choices_have_room_and_are_told_apart() -> None:
    choices = tuple(f"package.of.modules.choice_{number}_with_a_long_name" for number in range(50))
    space = {"model.act": CategoricalDistribution(choices)}
    found = report([trial(0.5 + number / 200, space=space, model_act=choices[number]) for number in range(50)])
    (picture,) = slices(found)
    svg = ElementTree.fromstring(picture.svg)
    *_, height = map(float, svg.attrib["viewBox"].split())
    labels = [one for one in svg if "-60" in one.get("transform", "")]
    assert 8 <= len(labels) <= 16
    assert len({one.text for one in labels}) == len(labels)
    for label in labels:  # they hang from their ends, down to the left
        assert float(label.attrib["y"]) + 0.87 * LETTER * len(label.text or "") < height
        assert float(label.attrib["x"]) - 0.5 * LETTER * len(label.text or "") > 0


def test_an_axis_label_is_beside_the_longest_number_of_its_ticks() -> None:
    text = page(report([trial(value, optimizer_lr=10 ** -(index + 1)) for index, value in enumerate((0.9999, 1.0))]))
    checked = 0
    for svg in pictures(text).values():
        turned = [mark for mark in marks(svg, "axis") if "rotate(-90" in (mark.get("transform") or "")]
        ticks = [mark for mark in svg.iter("text") if mark.get("text-anchor") == "end"]
        for label in turned:
            begins = min(float(tick.get("x", 0)) - LETTER * len(tick.text or "") for tick in ticks)
            assert 4 < float(label.get("x", 0)) < begins - 4
            checked += max(len(tick.text or "") for tick in ticks) >= 7
    assert checked


def test_the_curves_are_clipped_to_their_panel_by_a_name_that_nothing_else_has() -> None:
    found = replace(report(grid(3)), curve_metric="val/loss", curves={1: ((0, 1.0), (1, 0.5))})
    names = [attrs["id"] for _, attrs in Elements(page(found)).found if "id" in attrs]
    assert len(names) == len(set(names))
    assert "curves-panel" in names


def test_a_study_whose_trials_all_failed_speaks_of_neither_leaders_nor_stopping() -> None:
    found = report([trial(state=TrialState.FAIL, reason="no luck", optimizer_lr=0.01) for _ in range(3)])
    curved = replace(found, curve_metric="val/loss", curves={1: ((0, 1.0), (1, 0.5))})
    text = page(curved)
    assert "leaders" not in text
    assert "stopped early" not in text
    assert "No trial is complete. A dot marks where a trial failed." in text


def test_a_study_that_has_no_trials_yet_has_a_page_that_says_so() -> None:
    found = report([], stage="not started")
    assert "No trial was asked yet." in page(found)
    assert [section.id for section in sections(found)] == ["summary"]


def test_the_links_of_the_note_stay_inside_of_mlflow_and_its_signs_are_text() -> None:
    text = note(report(grid(4), name="a_b <i> | [x](http://evil)"))
    assert r"**a\_b &lt;i&gt; \| \[x\](http://evil)**" in text
    assert "](http" not in text.replace(r"\](http", "")
    assert text.count("\n| ") >= 6


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "own.html"
    write("first", path)
    with pytest.raises(UnicodeEncodeError):
        write("second \ud800", path)
    assert path.read_text() == "first"
    assert [found.name for found in path.parent.iterdir()] == ["own.html"]
