"""Files that are either the old ones or the new ones, never half of each, and of one process at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; takes its place when the block ends well, is removed when it does not."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")  # one a process
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: str, shared: bool = False, keep: bool = False) -> Iterator[None]:
    """Hold the lock of a file, made where there is none; ValueError, saying `busy`, where another process holds it.

    The end of the process releases it, whichever that is. Nothing is held where there are no such locks: on Windows,
    and on file systems that refuse them.

    shared : with others that share it. keep : the file, which is removed otherwise.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(busy) from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
        if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:  # removed by one that held it
            raise ValueError(busy)
        try:
            yield
        finally:
            if not keep:
                path.unlink(missing_ok=True)


def make_folder(out: Path) -> None:
    """A folder at `out`, if there is none; a ValueError where it is a file."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: wanted a folder, got {out}, which is a file")
    out.mkdir(parents=True, exist_ok=True)
