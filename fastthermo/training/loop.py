"""The steps of a run one after another: what is written when, and what Ctrl-C does.

A step is taken whole or not at all: Ctrl-C is acted upon when it has ended, a second one at once, with nothing written.
"""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastthermo._files import replacing
from fastthermo.training import checkpoint
from fastthermo.training.checkpoint import CURRENT, NETWORK, PREVIOUS, Settings

PAUSE = 60.0  # seconds between checkpoints
ROW = 50  # steps whose mean loss is a row of the history


def advance(run: Any, out: Path, settings: Settings, steps: int, progress: bool | None) -> None:
    """Take a run up to `steps` steps, with a row of history.csv every ROW and at the end, and checkpoints."""
    from tqdm import tqdm

    saved = time.monotonic()
    path = out / "history.csv"
    if run.step < steps:
        _rewind(path, run.step)
    bar = tqdm(
        total=steps,
        initial=run.step,
        desc=f"training on {settings.data}",
        unit="step",
        disable=None if progress is None else not progress,
    )
    with bar, path.open("a", encoding="utf-8") as history, _whole_steps() as stopped:
        while run.step < steps and not stopped():
            run.losses.append(run.advance(settings.batch, settings.rate))
            bar.update()
            if run.step % ROW == 0 or run.step == steps:
                loss = _loss(run, out, settings)
                history.write(f"{run.step},{loss:.6g}\n")
                history.flush()
                bar.set_postfix(loss=f"{loss:.4f}")
                if run.step % ROW == 0:
                    run.losses.clear()
                if time.monotonic() - saved > PAUSE:
                    _keep(run, out, settings)
                    saved = time.monotonic()
        _loss(run, out, settings)
        if run.step:
            _keep(run, out, settings)
        if stopped():
            raise KeyboardInterrupt


@contextmanager
def _whole_steps() -> Iterator[Callable[[], bool]]:
    """A function that tells whether Ctrl-C was pressed; a second one is a KeyboardInterrupt, as anywhere else."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    # another handler than Python's own is somebody's choice, and other threads have none
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _loss(run: Any, out: Path, settings: Settings) -> float:
    """The mean loss since the last row; a ValueError where it is no number."""
    loss = float(sum(run.losses) / max(1, len(run.losses)))
    if not math.isfinite(loss):
        kept = f"; the last checkpoint is kept in {out}" if (out / CURRENT).is_file() else ""
        raise ValueError(
            f"rate: the loss is {loss} at step {run.step}, wanted a finite one{kept}; begin again with a smaller "
            f"learning rate than {settings.rate}, in another folder or with --overwrite"
        )
    return loss


def _keep(run: Any, out: Path, settings: Settings) -> None:
    if (out / CURRENT).is_file():
        with replacing(out / PREVIOUS) as file:
            shutil.copyfile(out / CURRENT, file)
    checkpoint.save(out / CURRENT, run.tensors(), settings, run.step)
    checkpoint.save(out / NETWORK, run.average, settings, run.step)


def _rewind(path: Path, step: int) -> None:
    """Leave the rows that an uninterrupted run has by `step`: later ones are taken again, an end has no row there."""
    if not path.is_file():
        return

    def stays(line: str) -> bool:
        n = line.partition(",")[0]
        return not n.isdigit() or (int(n) <= step and int(n) % ROW == 0)

    kept = [f"{line}\n" for line in path.read_text(encoding="utf-8").splitlines() if stays(line)]
    with replacing(path) as file:
        file.write_text("".join(kept), encoding="utf-8")
