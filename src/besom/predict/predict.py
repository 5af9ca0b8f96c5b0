"""`besom predict`: predictions of a recorded model for a table, an array or images, with its preprocessing."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from besom.config.targets.trust import Trust
from besom.errors import ConfigError, StoreError
from besom.predict.writers import answers_to
from besom.tracking.registry import fetch
from besom.tracking.store import Location
from besom.tracking.tags import Tag

if TYPE_CHECKING:
    import pandas as pd

    from besom.models.saved import SavedModel
    from besom.predict.inputs import Piece, Warn

_STDIN = "-"

_BEGIN_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d*\.?\d+(e[+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request: `model` is a run's id or models:/…, `source` a path or `-` for stdin, `output` None for stdout."""

    model: str
    source: str
    trust: Trust = field(default_factory=Trust)
    output: Path | None = None
    rows: int = 4096
    probabilities: bool = False
    invert: bool = False
    separator: str | None = None


def predict(request: Request, location: Location, warn: Warn) -> str:
    """Write the predictions; return a summary: their number, and the score if the targets are known.

    Raises RunNotFound for a missing model, DataError for inputs that it cannot read; then nothing is written.
    """
    source = _existing(request)
    model = load_model(request.model, location, request.trust)
    # After loading the model, because they take seconds to import.
    from besom.predict.frame import Score, as_frame, of_each_class

    score, rows, formula = Score(model.spec), 0, None
    with _as_file(source) as path, answers_to(request.output) as answers:
        for piece in _pieces(request, model, path, warn):
            predicted = model.predict(piece.x).cpu()
            frame = as_frame(model.spec, predicted, probabilities=request.probabilities)
            frame.insert(0, "row" if isinstance(piece.names, range) else "file", list(piece.names))
            formula = formula or _formula_in(frame)
            answers.add(frame, of_each_class(model.spec, predicted).numpy())
            score.add(predicted, piece.truth)
            rows += len(frame)
    if formula and request.output and request.output.suffix.lower() == ".csv":
        warn(f"{request.output}: a spreadsheet takes {formula!r} for a formula; import it as text, or write .parquet")
    target = model.inputs.target
    summary = f"{rows} prediction(s)" + (f" in {request.output}" if request.output else "")
    return f"{summary}; {score.describe(target.name)}" if score.complete and target else summary


def _formula_in(frame: pd.DataFrame) -> str | None:
    """Return the first text cell, a class or file name, that a spreadsheet would evaluate as a formula."""
    texts = frame.select_dtypes(exclude="number")
    cells = (str(cell) for name in texts for cell in texts[name].unique())
    return next((cell for cell in cells if cell.startswith(_BEGIN_FORMULAS) and not _NUMBER.fullmatch(cell)), None)


def load_model(reference: str, location: Location, trust: Trust) -> SavedModel:
    """Return the model of a run, or of models:/NAME@ALIAS or models:/NAME/VERSION. Nothing is unpickled.

    Raises RunNotFound when there is none, or it cannot be rebuilt; ConfigError for a target that is not trusted.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = fetch(location, reference, Path(folder))
        from besom.models.saved import load_recorded

        try:
            return load_recorded(Path(folder), replace(trust, folder=run.data.tags.get(Tag.FOLDER)))
        except StoreError as error:
            raise StoreError(f"run '{run.info.run_id}': {error}") from error


def _existing(request: Request) -> Path:
    """Return the path of the input, after checking that it exists; `-` for stdin."""
    path = Path(request.source)
    if request.source == _STDIN:
        return path
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder; name a table, a .npy array, a picture or a folder of them")
    if request.output is not None and request.output.exists() and request.output.samefile(path):
        raise ConfigError(f"-o {request.output}: it is the input as well; choose another file")
    return path


@contextmanager
def _as_file(source: Path) -> Iterator[Path]:
    """Yield the path, or that of a copy of stdin, which errors read again to find their line."""
    if str(source) != _STDIN:
        yield source
        return
    with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _pieces(request: Request, model: SavedModel, path: Path, warn: Warn) -> Iterator[Piece]:
    from besom.predict.inputs import array_pieces, picture_pieces, table_pieces
    from besom.predict.pictures import SUFFIXES

    suffix = path.suffix.lower()
    if path.is_dir() or suffix in SUFFIXES:
        return picture_pieces(path, model.inputs, rows=request.rows, invert=request.invert)
    if request.invert:
        raise ConfigError("--invert: it is for pictures; leave it out")
    if suffix == ".npy":
        return array_pieces(path, model.inputs, rows=request.rows, warn=warn)
    shown = Path("stdin") if request.source == _STDIN else path
    return table_pieces(
        path, model.inputs, model.spec, rows=request.rows, separator=request.separator, shown=shown, warn=warn
    )
