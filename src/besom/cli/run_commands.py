"""The commands about recorded runs: `besom reproduce`, `besom predict`, `besom register` and `besom ui`."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from besom.cli.command import Command, Group, Parser, add_trust, complete
from besom.cli.suggestions import runs

_DIFFERENT = 1  # the exit code of a rerun that differs


def reproduce(arguments: list[str]) -> int:
    """Run `besom reproduce RUN_ID`; return its exit code."""
    parser = _reproduce_parser()
    options = parser.parse_args(arguments)
    if options.pip_args is not None and not options.exact:
        parser.error("--pip-args goes with --exact")
    from besom.config.targets.trust import Trust
    from besom.system.console import plain_console
    from besom.tracking.store import Location

    location, console, trust = Location.default(), plain_console(), Trust.given(options.trust)
    if options.exact:
        from besom.reproduce.rerun_exact import reproduce_exactly

        pip_args = shlex.split(options.pip_args or "")
        return reproduce_exactly(
            options.run_id, location, console, tolerance=options.tolerance, trust=trust, pip_args=pip_args
        )
    from besom.reproduce.comparison import TOLERANCE, Verdict
    from besom.reproduce.rerun import reproduce as again

    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    verdict = again(options.run_id, location, console, tolerance=tolerance, trust=trust)
    return _DIFFERENT if verdict is Verdict.DIFFERS else 0


def _reproduce_parser() -> Parser:
    parser = Parser(
        "reproduce",
        "Train a recorded run again from its config, in a fresh process, and compare every metric at\n"
        "every epoch: REPRODUCED if all are bit-exact, CLOSE if all are within the tolerance, else DIFFERS and exit\n"
        "code 1. It names what changed since: code, data, packages, device. The new run is recorded beside the old\n"
        "one, the verdict on both.",
        "  besom reproduce 4ba3b408759b42e99d4b0cad8ea04da9\n"
        "  besom reproduce RUN_ID --tolerance 0                                 only bit-exact will do\n"
        "  besom reproduce RUN_ID --exact                                       in the code and packages of then\n"
        '  besom reproduce RUN_ID --exact --pip-args "--extra-index-url URL"\n'
        "  besom reproduce RUN_ID --trust net                                   a model of your own, in package net\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom reproduce RUN_ID       a run on a server\n",
    )
    run = parser.add_argument(
        "run_id", metavar="RUN_ID", help="the id that `besom train` and `besom sweep` print last, or `besom ui` shows"
    )
    complete(run, runs)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--here", action="store_true", help="with the code and the packages that are here; the default")
    where.add_argument(
        "--exact", action="store_true", help="with the recorded commit, its changes, and the recorded packages"
    )
    parser.add_argument(
        "--tolerance", type=_share, metavar="T", help="what is CLOSE, as a share of the recorded value (default: 0.01)"
    )
    parser.add_argument("--pip-args", metavar="ARGS", help="more for pip, where --exact has to install packages")
    add_trust(parser)
    return parser


def predict(arguments: list[str]) -> int:
    """Run `besom predict RUN INPUT`."""
    options = _predict_parser().parse_args(arguments)
    from besom.config.targets.trust import Trust
    from besom.predict.predict import Request
    from besom.predict.predict import predict as ask
    from besom.tracking.store import Location

    request = Request(
        model=options.run,
        trust=Trust.given(options.trust),
        source=options.source,
        output=options.output,
        rows=options.batch_size,
        probabilities=options.probabilities,
        invert=options.invert,
        separator=options.separator,
    )
    summary = ask(request, Location.default(), warn=_warn)
    (sys.stdout if options.output else sys.stderr).write(f"{summary}\n")
    return 0


def _predict_parser() -> Parser:
    parser = Parser(
        "predict",
        "Ask a recorded model about new inputs, behind the preprocessing that it was trained behind.\n"
        "INPUT is a CSV, TSV or Parquet file with the columns of the training file in any order (if the target is\n"
        "there, the score is told), a .npy array [n, features] or [n, height, width], a PNG or JPEG picture or a\n"
        "folder of them, or - for CSV on stdin. Nothing is written unless all of it can be read.",
        "  besom predict RUN_ID new.csv\n"
        "  besom predict RUN_ID new.csv -o out.parquet --probabilities\n"
        "  besom predict RUN_ID pictures/ --invert -o out.csv             dark on white, for a model of MNIST\n"
        "  besom predict models:/houses@champion new.csv                  a model that besom register put there\n"
        "  besom predict RUN_ID new.csv --trust net                       a model of your own, in package net\n",
    )
    run = parser.add_argument("run", metavar="RUN", help="a run's id, models:/NAME@ALIAS or models:/NAME/VERSION")
    complete(run, runs)
    parser.add_argument("source", metavar="INPUT", help="a table, an array, a picture, a folder of pictures, or -")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".csv, .parquet, or .npy: values [n] or the probabilities of the classes [n, classes]; replaced if it "
        "exists (default: CSV on stdout)",
    )
    parser.add_argument("--probabilities", action="store_true", help="add a column for the probability of each class")
    parser.add_argument(
        "--batch-size", type=_count, default=4096, metavar="N", help="rows at a time (default: %(default)s)"
    )
    parser.add_argument("--separator", metavar="CHARACTER", help="what divides the cells of a text file")
    parser.add_argument("--invert", action="store_true", help="the pictures are dark on white")
    add_trust(parser)
    return parser


def register(arguments: list[str]) -> int:
    """Run `besom register RUN NAME`."""
    options = _register_parser().parse_args(arguments)
    from besom.config.targets.trust import Trust
    from besom.tracking.registry import register as put
    from besom.tracking.registry import serving_needs
    from besom.tracking.store import Location

    location = Location.default()
    version = put(location, options.run_id, options.name, alias=options.alias, trust=Trust.given(options.trust))
    sys.stdout.write(f"{options.name} version {version}: models:/{options.name}@{options.alias}\n")
    if needs := serving_needs(location, options.run_id):
        sys.stderr.write(f"besom: {needs}\n")
    return 0


def _register_parser() -> Parser:
    parser = Parser(
        "register",
        "Put a run's model into MLflow's registry as the next version of NAME, and point an alias to it.\n"
        "It carries its preprocessing, loads with mlflow.pyfunc without unpickling anything, and can be served. A\n"
        "run that is a version of NAME already stays that version, and only the alias moves.",
        "  besom register RUN_ID digits\n"
        "  besom register RUN_ID digits --alias challenger\n"
        "  besom register RUN_ID digits --trust net               a model of your own; it says what serving it needs\n"
        "  MLFLOW_TRACKING_URI=sqlite:///mlruns/mlflow.db mlflow models serve -m models:/digits@champion \\\n"
        "      --env-manager local --host 127.0.0.1 --port 5001\n",
    )
    complete(parser.add_argument("run_id", metavar="RUN", help="a run's id"), runs)
    parser.add_argument("name", metavar="NAME", help="the model's name in the registry; made if it is new")
    parser.add_argument("--alias", default="champion", metavar="ALIAS", help="what to call this version (%(default)s)")
    add_trust(parser)
    return parser


def ui(arguments: list[str]) -> int:
    """Run `besom ui`."""
    options = _ui_parser().parse_args(arguments)
    from besom.system.console import plain_console
    from besom.tracking.store import Location
    from besom.tracking.ui.server import serve

    return serve(Location.default(), host=options.host, port=options.port, console=plain_console())


def _ui_parser() -> Parser:
    parser = Parser(
        "ui",
        "Open the MLflow UI on what is recorded under mlruns/ here, or where MLFLOW_TRACKING_URI points,\n"
        "and print links to the latest study's dashboard and to its runs in a table, best first. ctrl-C ends it.",
        "  besom ui\n"
        "  besom ui --port 5001\n"
        "  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 besom ui        the link into a server that runs already\n",
    )
    parser.add_argument("--port", type=_port, default=5000, help="the port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to bind to (default: %(default)s, this machine only; on any other, whoever reaches it can "
        "read, write and delete what is recorded)",
    )
    return parser


def _warn(line: str) -> None:
    sys.stderr.write(f"besom: warning: {line}\n")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of rows; choose 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a tolerance; choose 0 or more, such as 0.01")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; choose 1 to 65535")
    return int(text)


GROUP = Group(
    title="recorded runs",
    commands=(
        Command("reproduce", "train a recorded run again, compare", "reproduce RUN_ID", _reproduce_parser, reproduce),
        Command("predict", "ask a recorded model about new data", "predict RUN_ID new.csv", _predict_parser, predict),
        Command("register", "put a model into MLflow's registry", "register RUN_ID digits", _register_parser, register),
        Command("ui", "browse and compare what is recorded", "ui", _ui_parser, ui),
    ),
)
