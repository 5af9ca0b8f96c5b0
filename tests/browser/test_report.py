"""What a person sees of a report: in a real browser, from the disk, with no network at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest

from besom.reports.format import number
from tests.browser.conftest import PICTURES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Look = Callable[..., AbstractContextManager["Page"]]


@pytest.fixture(scope="module")
def trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    """The study's trials, the best first, of equal ones the first."""
    storage = f"sqlite:///{study}/mlruns/optuna.db"
    return sorted(optuna.load_study(study_name="digits", storage=storage).trials, key=lambda trial: -trial.values[0])


@pytest.fixture
def look(study: Path, browser: Browser) -> Look:
    """Open the report that the sweep has left; it may ask for nothing, and have nothing to complain of."""

    @contextmanager
    def looking(*, width: int = 1100, scheme: str = "light") -> Iterator[Page]:
        asked: list[str] = []
        complaints: list[str] = []
        file = (study / "mlruns" / "reports" / "digits.html").as_uri()

        def only_the_file(route: Route) -> None:
            if route.request.url == file:
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        with browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", offline=True
        ) as context:
            context.route("**/*", only_the_file)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(file)
            yield page
        assert asked == complaints == []

    return looking


def leaderboard(page: Page) -> list[tuple[int, str]]:
    """Trial and value of each row, as they stand."""
    rows = page.locator("#leaderboard table").first.locator("tbody tr")
    cells = [row.split("\t") for row in rows.all_inner_texts()]
    return [(int(row[0]), row[1]) for row in cells]


def hover(page: Page, mark: Locator) -> str:
    """What the page tells of a mark under the pointer."""
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    return page.locator("#tip").inner_text()


def test_the_leaderboard_is_the_studys_and_a_click_sorts_it(look: Look, trials: list[optuna.trial.FrozenTrial]):
    with look() as page:
        wanted = [(trial.number, number(trial.values[0])) for trial in trials][:20]
        assert [value for _, value in leaderboard(page)] == [value for _, value in wanted]
        assert set(leaderboard(page)) <= {(trial.number, number(trial.values[0])) for trial in trials}
        assert f"Best val/acc is {wanted[0][1]}: trial " in page.locator("header").inner_text()
        heading = page.locator("#leaderboard table").first.get_by_role("button", name="trial")
        heading.click()
        by_number = [trial for trial, _ in leaderboard(page)]
        assert by_number == sorted(by_number)
        heading.click()
        assert [trial for trial, _ in leaderboard(page)] == by_number[::-1]


def test_a_trial_under_the_pointer_tells_of_itself_and_lights_up_everywhere(
    look: Look, trials: list[optuna.trial.FrozenTrial]
):
    with look() as page:
        best = page.locator("#history .m.top")
        trial = next(trial for trial in trials if str(trial.number) == best.get_attribute("data-t"))
        told = hover(page, best).splitlines()
        assert told[0] == f"trial {trial.number}"
        assert f"val/acc {number(trial.values[0])}" in told
        assert f"model {trial.params['model']}" in told
        assert page.locator(f"#parallel .pl.on[data-t='{trial.number}']").count() == 1
        assert page.locator(f"#curves .on[data-t='{trial.number}']").count() == 2  # the curve and its name
        page.mouse.move(2, 2)
        assert page.locator(".on").count() == 0
        assert page.locator("#tip").is_hidden()


def test_a_drag_along_an_axis_keeps_the_lines_that_cross_it_there(look: Look, trials: list[optuna.trial.FrozenTrial]):
    with look() as page:
        axis = page.locator("#parallel .brush").last
        axis.scroll_into_view_if_needed()
        box = axis.bounding_box()
        assert box is not None
        x = box["x"] + box["width"] / 2
        page.mouse.move(x, box["y"] + 1)
        page.mouse.down()
        page.mouse.move(x, box["y"] + box["height"] / 4, steps=4)
        page.mouse.up()
        kept = page.locator("#parallel .pl:not(.out)")
        assert str(trials[0].number) in [line.get_attribute("data-t") for line in kept.all()]
        assert page.locator("#parallel .pl.out").count() > 0
        page.mouse.click(x, box["y"] + 1)
        assert page.locator("#parallel .pl.out").count() == 0


def test_every_section_has_something_to_show(look: Look, trials: list[optuna.trial.FrozenTrial]):
    with look() as page:
        sections = [section.get_attribute("id") for section in page.locator("section").all()]
        assert [name for name in sections if name != "finalists"] == [  # only the whole of the sweep has those
            *("summary", "leaderboard", "history", "importances", "parallel", "slices", "curves", "slots", "again")
        ]
        assert page.locator("#history [data-t]").count() == len(trials)
        assert page.locator("#slots .stint").count() == len(trials)
        assert page.locator("#curves path[data-t]").count() >= len(trials)
        assert f"--trial {trials[0].number} " in page.locator("#again").inner_text()
        if PICTURES:
            page.set_viewport_size({"width": 1100, "height": 2250})
            page.screenshot(path=Path(PICTURES) / "report.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_screen_nothing_sticks_out_and_the_page_follows_the_mode(look: Look, scheme: str):
    with look(width=390, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        paper, ink = (
            page.evaluate(f"getComputedStyle(document.body).{what}.match(/\\d+/)[0] / 1")
            for what in ("backgroundColor", "color")
        )
        assert (paper < ink) == (scheme == "dark")
