"""The numbered configs of a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from besom.errors import first_few
from besom.reports.read.configs import configs_of, differences
from besom.sweep.compose import Composer
from besom.sweep.space.parser import SpaceParser
from besom.sweep.study.config import changes_since_it_began, number_of, shared_by
from besom.sweep.study.recovery import about_recorded
from besom.tracking.study_run import RecordedEnd
from tests.conftest import App
from tests.sweep.books import Folder

MakeFolder = Callable[..., Folder]


def shared(app: App, params: dict[str, Any], *overrides: str) -> dict[str, Any]:
    space, line = SpaceParser(app[0], source="own.yaml").space(params, {})
    composer = Composer(*app, fixed=[*line.fixed, *overrides])
    return shared_by(space, composer, lambda config: dict(OmegaConf.to_container(config)), without="table")  # type: ignore[arg-type]


def test_a_config_has_what_each_choice_gives_and_nothing_that_is_sampled(small_app: App):
    found = shared(small_app, {"rate": "interval(0.1, 1)", "db": "choice(small, large)"})
    assert found.keys() == {"name", "flag", "items", "nothing", "db.size", "db=large: db.size", "db=large: db.shards"}
    assert (found["db.size"], found["db=large: db.size"]) == (1, 2)


def test_each_config_of_a_study_has_a_number_that_stays(folder: MakeFolder):
    with folder().book() as book:
        first = {"a": 1, "b": 2, "db=large: size": 2}
        second, third = {**first, "a": 5}, {"a": 1, "c": 4, "db=large: size": 9}
        assert [number_of(book, one, keep=True) for one in (first, second, third)] == [1, 2, 3]
        assert [number_of(book, one, keep=True) for one in (third, first, second)] == [3, 1, 2]
        assert number_of(book, {"a": 7}, keep=False) == 4
        assert configs_of(book.study.user_attrs) == {
            number: {key: str(value) for key, value in one.items()}
            for number, one in enumerate((first, second, third), start=1)
        }
        assert changes_since_it_began(book, second, 2) == ["a was 1, is 5"]
        assert changes_since_it_began(book, third, 3) == [
            "b was 2, is not there", "c was not there, is 4", "db=large: size was 2, is 9",
        ]  # fmt: skip


def test_what_all_choices_came_to_have_in_common_is_told_once(folder: MakeFolder):
    with folder().book() as book:
        number_of(book, {"epochs": 10, "db=large: epochs": 20}, keep=True)
        now = {"epochs": 20}
        assert changes_since_it_began(book, now, number_of(book, now, keep=True)) == ["epochs was 10, is 20"]


def test_a_study_that_kept_the_first_choices_alone_is_not_changed_by_the_others(folder: MakeFolder):
    with folder().book() as book:
        book.set_user_attr("besom.config", {"a": "1"})
        assert number_of(book, {"a": 1, "db=large: size": 2}, keep=True) == 1
        assert number_of(book, {"a": 2, "db=large: size": 2}, keep=True) == 2


def test_a_trial_that_is_taken_over_from_its_run_has_the_config_and_code_of_its_run():
    tags = {"besom.state": "PRUNED", "besom.config": "2", "besom.code_differs": "net.py 2"}
    end = RecordedEnd(run_id="a", tags=tags, metrics={}, began_s=0.0, ended_s=1.0)
    about = about_recorded(end)
    assert (about["config"], about["code"]) == (2, "net.py 2")


def test_of_many_changes_the_first_are_named():
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_key_that_a_newer_version_adds_is_no_change_while_it_is_empty():
    before, now = {"seed": "0"}, {"seed": "0", "callbacks": "{}", "artifacts": "[]", "logger": "None"}
    assert differences(before, now) == differences(now, before) == []
    assert differences(before, {"seed": "0", "artifacts": "['*.csv']"}) == ["artifacts was not there, is ['*.csv']"]
    assert differences({"limit": "5"}, {"limit": "None"}) == ["limit was 5, is None"]
