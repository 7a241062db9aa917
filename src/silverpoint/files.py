"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path` to write to. On leaving, `path` is renamed to it; when anything goes
    wrong it is removed and `path` stays as it was. OSErrors are the caller's.
    """
    # A short name of our own: one made from the path's could exceed what the file system allows.
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file, text as UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
