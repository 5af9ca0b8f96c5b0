"""Standard output and error: a reader that goes away or a full disk ends no training."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from io import TextIOBase

    _Stream = TextIOBase
else:
    _Stream = object

_READER_LEFT = (errno.EPIPE, errno.EIO)  # EIO: the terminal was closed


@contextmanager
def lossy_output() -> Iterator[None]:
    """Drop output in a `with` block that cannot be written, and let the block continue."""
    before = sys.stdout, sys.stderr
    streams = [_Lossy(stream) if stream is not None else None for stream in before]
    sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Lossy(_Stream):
    """A text stream that drops its output once a write fails; reports that on stderr unless the reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = False

    def write(self, text: str) -> int:
        try:
            if not self._lost:
                self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            if not self._lost:
                self._stream.flush()
        except OSError as error:
            self._lose(error)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def _lose(self, error: OSError) -> None:
        self._lost = True
        silence(self._stream)
        if error.errno not in _READER_LEFT:
            warning = f"what is printed is lost from here on ({error.strerror}); everything else goes on"
            with suppress(OSError):
                sys.stderr.write(f"besom: warning: {warning}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: TextIO) -> None:
    """Redirect a stream, with its buffer, to /dev/null: else Python would try to flush it at exit, and complain."""
    with suppress(OSError, ValueError):  # a stream without a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_closed_streams() -> None:
    """Open standard input, output and error if the shell has closed them (`>&-`).

    Otherwise the first opened files would take their descriptors, in this process and its children.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free descriptor
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
