"""Files that are either the old ones or the new ones, never half of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; takes its place when the block ends well, is removed when it does not."""
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(out: Path) -> None:
    """A folder at `out`, if there is none; a ValueError where it is a file."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: wanted a folder, got {out}, which is a file")
    out.mkdir(parents=True, exist_ok=True)
