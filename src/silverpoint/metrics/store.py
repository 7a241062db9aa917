"""What networks said of an image before, kept by the image's content.

The real side of a test set, its floors, and a run scored twice are the same pictures again: their features and
distances are looked up. One safetensors file per network, of bounded length, in the user's cache.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from silverpoint.files import write_whole

if TYPE_CHECKING:
    from silverpoint.metrics.fsim import FeatureMaps

ROWS = {1: 1 << 18}  # rows kept per file, by width: numbers of pairs, 10 MB
ROWS_OF_FEATURES = 1 << 12  # 34 MB of Inception's

Key = bytes


def key_of(*parts: np.ndarray | bytes) -> Key:
    """SHA-256 of arrays, with their shapes and types, and of other keys."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(part)
    return digest.digest()


class Table:
    """Vectors of one length by key; the least recently used are forgotten. A damaged file counts as empty."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[Key, np.ndarray] = {}
        self.changed = False
        if path is not None:
            self._read(path)

    def fill(self, keys: Sequence[Key], compute: Callable[[list[int]], np.ndarray]) -> np.ndarray:
        """The rows (n, D) of `keys`; `compute` is asked for one position of each key that is not here."""
        missing = list({key: at for at, key in enumerate(keys) if key not in self.rows}.values())
        if missing:
            for position, row in zip(missing, compute(missing), strict=True):
                self.rows[keys[position]] = np.asarray(row, np.float32).reshape(-1)
            self.changed = True
        for key in keys:
            self.rows[key] = self.rows.pop(key)  # to the end: used last
        return np.stack([self.rows[key] for key in keys])

    def save(self) -> None:
        """Write what is new, whole or not at all; a cache that cannot be written is no error."""
        if not self.changed or self.path is None:
            return
        from safetensors.numpy import save

        width = len(next(iter(self.rows.values())))
        kept = list(self.rows.items())[-ROWS.get(width, ROWS_OF_FEATURES) :]
        keys = np.stack([np.frombuffer(key, np.uint8) for key, _ in kept])
        data = save({"keys": keys, "values": np.stack([value for _, value in kept])})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, data)
        self.changed = False

    def _read(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(path.read_bytes())
            keys, values = found["keys"], found["values"]
        except (OSError, KeyError, SafetensorError):
            return
        if keys.dtype == np.uint8 and keys.shape == (len(values), 32) and values.ndim == 2:
            self.rows = {key.tobytes(): value for key, value in zip(keys, values, strict=True)}


class Store:
    """The tables of a folder, one per network and geometry; without a folder they last as long as the store."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.tables: dict[str, Table] = {}
        self.maps: dict[Key, FeatureMaps] = {}  # FSIM's, by batch of images; in memory alone

    @classmethod
    def in_cache(cls) -> "Store":
        """The store beside the assets in the user's cache."""
        from silverpoint.assets import cache_dir

        return cls(cache_dir().parent / "measured")

    def table(self, network: str, *settings: object) -> Table:
        """The table of what `network` (named with its checksum) says under these settings."""
        from silverpoint import __version__

        name = "-".join([network, *(f"{setting}" for setting in settings), __version__])
        if name not in self.tables:
            self.tables[name] = Table(self.folder and self.folder / f"{name}.safetensors")
        return self.tables[name]

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        for table in self.tables.values():
            table.save()
