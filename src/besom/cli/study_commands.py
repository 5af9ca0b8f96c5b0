"""The commands about studies: `besom studies`, `besom report` and `besom best`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from besom.cli.command import Command, Group, Parser, complete
from besom.cli.suggestions import studies, sweeps
from besom.errors import RunNotFound


def list_all(arguments: list[str]) -> int:
    """Run `besom studies`."""
    options = _studies_parser().parse_args(arguments)
    import json
    from datetime import datetime

    from besom.studies.cards import list_studies, opened, table
    from besom.system.console import plain_console

    with opened(options.storage, options.directory) as storage:
        cards = list_studies(storage, options.directory)
    if options.json:
        sys.stdout.write(json.dumps([card.plain() for card in cards], indent=2) + "\n")
        return 0
    if not cards:
        raise RunNotFound("there are no studies yet; start one with besom sweep digits")
    plain_console().print(table(cards, now=datetime.now().astimezone()))
    return 0


def _studies_parser() -> Parser:
    parser = Parser(
        "studies",
        "List the studies under mlruns/ here, the latest first: which ones run, how far they are, their\n"
        "best. An interrupted one goes on with the command that began it.",
        "  besom studies\n"
        "  besom studies --json                                  for programs\n"
        "  besom studies --directory ../other/mlruns\n"
        "  besom studies --storage sqlite:///mlruns/optuna.db\n",
    )
    _add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    return parser


def report_study(arguments: list[str]) -> int:
    """Run `besom report STUDY`."""
    options = _report_parser().parse_args(arguments)
    import json
    import webbrowser

    from besom.cli.study_report import read_study, write_page
    from besom.reports.text.leaderboard import study_flags
    from besom.reports.text.terminal import plain, show
    from besom.system.console import plain_console
    from besom.tracking.store import Location

    location = Location.of({"uri": os.environ.get("MLFLOW_TRACKING_URI"), "directory": options.directory})
    report, path = read_study(options.study, storage=options.storage, directory=options.directory, location=location)
    path = options.output or path
    write_page(report, path)
    if options.json:
        sys.stdout.write(json.dumps({**plain(report), "report": str(path)}, indent=2) + "\n")
    else:
        show(report, plain_console(), flags=study_flags(options.directory, options.storage))
        sys.stdout.write(f"{path}\n")
    if options.open:
        webbrowser.open(path.absolute().as_uri())
    return 0


def _report_parser() -> Parser:
    parser = Parser(
        "report",
        "Show what a study came to, and write it as one HTML file that needs no network: who won and by\n"
        "what, every trial, what mattered, learning curves, devices, failures, and how to get each run again.\n"
        "A study that still runs is shown as far as it is.",
        "  besom report digits                                   mlruns/reports/digits.html\n"
        "  besom report digits -o digits.html --open             and open it in a browser\n"
        "  besom report digits --json                            for programs\n",
    )
    _add_study(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html", help="where to write it (default: DIR/reports/STUDY.html)"
    )
    parser.add_argument("--open", action="store_true", help="open it in a browser")
    parser.add_argument("--json", action="store_true", help="print what it came to as JSON")
    _add_storage(parser)
    return parser


def best_trial(arguments: list[str]) -> int:
    """Run `besom best STUDY`."""
    options = _best_parser().parse_args(arguments)
    from besom.studies.best import best_config, command_line, save, train_command
    from besom.studies.cards import find_study, opened

    with opened(options.storage, options.directory) as storage:
        card = find_study(storage, options.study, options.directory)
    folders = [options.config_dir] if options.config_dir else []
    best = best_config(card, options.trial, folders=folders, directory=options.directory, sweep=options.sweep)
    for note in best.notes:
        sys.stderr.write(f"besom: warning: {note}\n")
    if options.save:
        conf = options.config_dir or Path("conf")
        path = save(best, options.save, conf)
        command = train_command(options.save, best.extra, conf)
        sys.stdout.write(f"{best.summary}\n{path} is written; train it: {command}\n")
    elif best.arguments is not None:
        best.arguments.write()
        sys.stdout.write(f"{best.arguments}\n")
    else:
        sys.stdout.write(best.text or f"{command_line(best.overrides)}\n")
    return 0


def _best_parser() -> Parser:
    parser = Parser(
        "best",
        "Print the config of a study's best trial as YAML for conf/experiment/, so that it is trained\n"
        "exactly by besom train experiment=NAME. Where there are finalists, it is their winner; of several\n"
        "objectives, the best in the first one; --trial takes any other. For a study of another Hydra app, it\n"
        "prints the arguments that start one job with the trial's values; values that a shell would take apart are\n"
        "in a file under DIR/best/ that they name.",
        "  besom best digits\n"
        "  besom best digits --save digits_best                  conf/experiment/digits_best.yaml\n"
        "  besom best digits --trial 7\n"
        "  python app.py $(besom best mine)                      one job of another Hydra app\n",
    )
    _add_study(parser)
    parser.add_argument("--trial", type=int, metavar="N", help="this trial, not the best one")
    parser.add_argument(
        "--save", metavar="NAME", help="write conf/experiment/NAME.yaml here, or DIR/experiment/NAME.yaml"
    )
    sweep = parser.add_argument("--sweep", metavar="FILE", help="the sweep file, where it is not found by itself")
    complete(sweep, sweeps)
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="your own configs, as for besom sweep")
    _add_storage(parser)
    return parser


def _add_study(parser: argparse.ArgumentParser) -> None:
    complete(parser.add_argument("study", metavar="STUDY", help="a name that besom studies lists"), studies)


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", type=Path, default=Path("mlruns"), metavar="DIR", help="where it is kept (default: %(default)s)"
    )
    parser.add_argument("--storage", metavar="URL", help="an Optuna storage, where it is not DIR/optuna.db")


GROUP = Group(
    title="studies",
    commands=(
        Command("studies", "list the studies and their best", "studies", _studies_parser, list_all),
        Command("report", "who won, what mattered: a page", "report digits", _report_parser, report_study),
        Command("best", "print a study's best config, to keep", "best digits", _best_parser, best_trial),
    ),
)
