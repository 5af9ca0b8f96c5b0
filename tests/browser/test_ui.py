"""What a person sees who opens the link that `besom ui` prints: in a real browser, on a real study.

MLflow's UI is not ours, and what our views say to it is internal to it: these tests hold the pinned version to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import mlflow
import pytest

from besom.tracking.runs import Runs
from besom.tracking.store import Location, connect
from tests.browser.conftest import PICTURES
from tests.running import Ui, running_ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route, ViewportSize

OLD = mlflow.__version__.startswith("3.10.")  # whose page has an order of columns of its own

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZE: ViewportSize = {"width": 1400, "height": 800}
TALL: ViewportSize = {"width": 1920, "height": 1400}  # MLflow draws only the rows and columns that can be seen
OBJECTIVE = "metrics.`best/val/acc`"
PARAMS = ("model", "optimizer", "optimizer.lr", "model.depth", "model.width", "model.activation")

Trials = Mapping[str, Mapping[str, Any]]
Visit = Callable[..., AbstractContextManager["Page"]]


@pytest.fixture(scope="module")
def ui(study: Path) -> Iterator[Ui]:
    with running_ui(study) as found:
        yield found


@pytest.fixture(scope="module")
def trials(study: Path) -> Trials:
    """What MLflow holds of the study: each trial's cells as the table should show them, by the run's id."""
    client = connect(Location.of({"uri": None, "directory": study / "mlruns"}))
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`besom.trial` != ''", max_results=1000)
    return {
        run.info.run_id: {
            **{f"metrics.`{name}`": value for name, value in run.data.metrics.items()},
            **{f"params.`{name}`": run.data.params.get(name, "-") for name in PARAMS},
        }
        for run in runs
    }


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Visit:
    """Open a URL as someone who has never been there; nothing may be asked of any other machine."""

    @contextmanager
    def visiting(url: str, *, page_is: str | None = None, tall: bool = False) -> Iterator[Page]:
        outside: list[str] = []

        def pass_on(route: Route) -> None:
            asked = urlsplit(route.request.url)
            if asked.hostname not in ("127.0.0.1", None):
                outside.append(route.request.url)
                route.abort()
            elif page_is is not None and asked.path == "/":
                route.fulfill(body=page_is, content_type="text/html")
            else:
                route.continue_()

        with browser.new_context(viewport=TALL if tall else SIZE) as context:
            context.route("**/*", pass_on)
            page = context.new_page()
            page.set_default_timeout(60_000)
            try:
                page.goto(url, wait_until="domcontentloaded")
                yield page
            except Exception as error:
                page.screenshot(path=tmp_path / "failed.png")
                error.add_note(f"the page as it was: {tmp_path / 'failed.png'}")
                raise
        assert outside == []

    return visiting


def picture(page: Page, name: str, *, height: int = SIZE["height"]) -> None:
    if PICTURES:
        page.set_viewport_size({**SIZE, "height": height})
        page.wait_for_timeout(1000)
        page.screenshot(path=Path(PICTURES) / name)


def rows(page: Page, count: int) -> list[tuple[str, dict[str, str]]]:
    """The table as it is shown, from the top: each row's run id, and its cells by their columns."""
    page.wait_for_function(
        "([column, count]) => document.querySelectorAll(`[row-id] [col-id='${column}']`).length >= count",
        arg=[OBJECTIVE, count],
    )
    page.wait_for_timeout(500)  # MLflow puts the columns in order a moment after it has filled them
    parts = page.evaluate(
        """() => [...document.querySelectorAll("[role=row][row-id]")].map(row => [
            Number(row.getAttribute("row-index")), row.getAttribute("row-id"),
            [...row.querySelectorAll("[role=gridcell]")].map(cell => [cell.getAttribute("col-id"), cell.innerText])])"""
    )
    found: dict[int, tuple[str, dict[str, str]]] = {}
    for index, run_id, cells in parts:  # a row comes in parts: what is pinned, and the rest
        found.setdefault(index, (run_id, {}))[1].update(cells)
    return [found[index] for index in sorted(found)]


def columns(page: Page) -> list[str]:
    """The table's columns as they stand, from the left."""
    headers: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".ag-header-cell")]
            .sort((one, other) => one.getBoundingClientRect().x - other.getBoundingClientRect().x)
            .map(header => header.getAttribute("col-id"))"""
    )
    return headers[1:]  # the first one is to tick


def test_the_printed_link_shows_the_trials_best_first_on_a_first_visit_and_on_coming_back_from_a_run(
    ui: Ui, trials: Trials, visit: Visit
):
    with visit(ui.table, tall=True) as page:
        shown, order = rows(page, len(trials)), columns(page)
        assert {run_id for run_id, _ in shown} == set(trials)
        assert len(shown) == len(trials)
        best = [float(cells[OBJECTIVE]) for _, cells in shown]
        assert best == sorted((trial[OBJECTIVE] for trial in trials.values()), reverse=True)
        for run_id, cells in shown:
            assert float(cells[OBJECTIVE]) == trials[run_id][OBJECTIVE]
            assert float(cells["metrics.`val/loss`"]) == trials[run_id]["metrics.`val/loss`"]
            assert {name: cells[f"params.`{name}`"] for name in PARAMS} == {
                name: trials[run_id][f"params.`{name}`"] for name in PARAMS
            }
        expected = [
            "attributes.`Run Name`",
            "runDateAndNestInfo",
            OBJECTIVE,
            *[f"params.`{name}`" for name in PARAMS],
            "metrics.`train/acc`",
            "metrics.`val/loss`",
            "duration",
        ]
        assert (sorted(order) == sorted(expected)) if OLD else (order == expected)
        picture(page, "runs-table.png")
        # It is about training, and nothing covers the table.
        assert page.get_by_text("Models", exact=True).is_visible()
        assert not page.get_by_text("Judges", exact=True).is_visible()
        assert not page.get_by_text("Ask questions about your").is_visible()
        first = shown[0][0]
        page.locator(f"[row-id='{first}'] a[href*='{first}']").click()
        page.get_by_text("About this run").wait_for()
        page.go_back()
        assert [run_id for run_id, _ in rows(page, len(trials))] == [run_id for run_id, _ in shown]
        assert columns(page) == order
        page.goto(f"{ui.base}/#/")
        page.get_by_text("Recent Experiments").wait_for()
        assert not page.get_by_text("collects usage data").is_visible()


@pytest.mark.skipif(OLD, reason="the page of MLflow 3.10 alone does not apply the view of a link")
def test_on_a_server_of_mlflow_alone_the_link_shows_the_same_table(ui: Ui, trials: Trials, visit: Visit):
    import mlflow.server

    plain = Path(str(mlflow.server.app.static_folder), "index.html").read_text(encoding="utf-8")
    with visit(ui.table, page_is=plain) as page:
        page.get_by_text("viewing a shared view").wait_for()
        assert {run_id for run_id, _ in rows(page, len(trials))} == set(trials)
        assert (
            {OBJECTIVE, "params.`model`"} <= {*columns(page)}
            if OLD
            else columns(page)[2:4] == [OBJECTIVE, "params.`model`"]
        )


def drawn(page: Page, title: str, count: int) -> list[dict[str, Any]]:
    """What the dashboard's chart of that title draws, once its lines, points or bars are `count`."""
    plot = """([title, count]) => {
        const cards = [...document.querySelectorAll("[data-testid=experiment-view-compare-runs-card]")];
        const card = cards.find(card => card.innerText.startsWith(title + "\\n"));
        const data = card?.querySelector(".js-plotly-plot")?.data ?? [];
        const names = new Set(data.flatMap(part => part.name ?? part.y.map((_, index) => index)));
        return names.size >= count && data.map(({name, x, y}) => ({name, x, y}));
    }"""
    found: list[dict[str, Any]] = page.wait_for_function(plot, arg=[title, count]).json_value()
    return found


def test_the_dashboard_shows_what_was_recorded(ui: Ui, trials: Trials, visit: Visit):
    leaders = sorted(trials, key=lambda run_id: -trials[run_id][OBJECTIVE])[:20]
    values = sorted(trials[run_id][OBJECTIVE] for run_id in leaders)
    with visit(ui.link, tall=True) as page:
        page.get_by_text("Parallel Coordinates").wait_for()
        (bars,) = drawn(page, "best/val/acc", len(leaders))
        assert dict(zip(bars["y"], bars["x"], strict=True)) == {
            run_id: trials[run_id][OBJECTIVE] for run_id in leaders
        }  # fmt: skip
        curves = drawn(page, "val/acc", len(leaders))
        assert max(max(line["y"]) for line in curves) == values[-1]
        scatter = page.get_by_text("vs. best/val/acc").first.inner_text()
        (points,) = drawn(page, scatter, len(leaders))
        parameter = f"params.`{scatter.removesuffix(' vs. best/val/acc')}`"
        assert sorted(zip(points["x"], points["y"], strict=True)) == sorted(
            (trials[run_id][parameter], trials[run_id][OBJECTIVE]) for run_id in leaders
        )
        picture(page, "dashboard.png", height=1050)  # as many as its four charts take


def test_the_compare_page_shows_the_parameters_that_differ(ui: Ui, trials: Trials, visit: Visit):
    chosen = sorted(trials, key=lambda run_id: -trials[run_id][OBJECTIVE])[:3]
    experiment = ui.table.partition("/experiments/")[2].partition("/")[0]
    runs, experiments = quote(json.dumps(chosen)), quote(json.dumps([experiment]))
    with visit(f"{ui.base}/#/compare-runs?runs={runs}&experiments={experiments}", tall=True) as page:
        page.locator("[role=switch][aria-label='Parameters - Show diff only'][aria-checked=true]").wait_for()
        lines = page.evaluate(
            "() => [...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.innerText))"
        )
        shown = {line[0]: [cell or "-" for cell in line[1:]] for line in lines if line}
        differing = {
            name: [trials[run_id][f"params.`{name}`"] for run_id in chosen]
            for name in PARAMS
            if len({trials[run_id][f"params.`{name}`"] for run_id in chosen}) > 1
        }
        assert {name: shown[name] for name in differing} == differing
        assert "data.batch_size" not in shown
        page.get_by_role("link", name="best/val/acc", exact=True).wait_for()
        for run_id in chosen:
            assert page.get_by_text(str(round(trials[run_id][OBJECTIVE], 3)), exact=True).first.is_visible()
        picture(page, "compare-page.png")


def test_a_run_shows_its_metrics_and_its_figures(ui: Ui, trials: Trials, visit: Visit):
    run_id, best = max(((run_id, trial[OBJECTIVE]) for run_id, trial in trials.items()), key=lambda pair: pair[1])
    experiment = ui.table.partition("/experiments/")[2].partition("/")[0]
    link = f"{ui.base}/#/experiments/{experiment}/runs/{run_id}"
    with visit(link) as page:
        for name in ("best/val/acc", "val/acc", "val/loss", "train/loss"):
            page.get_by_role("link", name=name, exact=True).wait_for()
        assert page.get_by_text(str(best), exact=True).first.is_visible()
        picture(page, "run-page.png")
        page.get_by_role("tab", name="Artifacts").click()
        for figure in ("learning_curves.svg", "confusion_matrix.svg"):
            page.get_by_text(figure, exact=True).first.click()
            page.wait_for_function(
                "name => [...document.querySelectorAll('img')].some(img => img.alt == name && img.naturalWidth > 100)",
                arg=figure,
            )


def test_the_studys_description_leads_to_its_report_and_to_the_comparison_of_its_leaders(
    ui: Ui, study: Path, trials: Trials, visit: Visit
):
    parent = Runs(Location.of({"uri": None, "directory": study / "mlruns"})).latest_study()
    assert parent is not None
    leaders = min(len(trials), 8)
    with visit(f"{ui.base}/#/experiments/{parent.experiment_id}/runs/{parent.run_id}") as page:
        with page.context.expect_page() as opened:  # MLflow opens what a description links to beside it
            page.get_by_role("link", name=f"Compare the {leaders} leaders").click()
        opened.value.get_by_text(f"Comparing {leaders} Runs from 1 Experiment").first.wait_for()
        shown = opened.value.content()
        assert sum(run_id in shown for run_id in trials) == leaders
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Report", exact=True).click()
        heading = opened.value.frame_locator("iframe").get_by_role("heading", level=1)
        heading.wait_for()
        assert heading.inner_text() == "digits"
