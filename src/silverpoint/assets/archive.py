"""Members of a zip or tar.gz, by exact name, into memory: nothing goes to a path that an archive names."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from typing import IO

from silverpoint.assets.manifest import Archive, Member
from silverpoint.errors import AssetError


def read_members(file: IO[bytes], archive: Archive, members: tuple[Member, ...]) -> list[bytes]:
    """The members' bytes in order, each checked. Raises AssetError if one is missing, damaged or altered."""
    try:
        file.seek(0)  # another asset may have been read from it before
        if archive.filename.endswith((".whl", ".zip")):
            with zipfile.ZipFile(file) as opened:
                return [_zip_member(opened, member) for member in members]
        with tarfile.open(fileobj=file, mode="r:gz") as opened_tar:
            return [_tar_member(opened_tar, member) for member in members]
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        raise AssetError(f"{archive.filename} is damaged: {error}") from error


def _zip_member(opened: zipfile.ZipFile, member: Member) -> bytes:
    if member.path not in opened.namelist():
        raise AssetError(f"{opened.filename or 'the archive'} holds no {member.path}")
    with opened.open(member.path) as stream:
        return _checked(stream, member)


def _tar_member(opened: tarfile.TarFile, member: Member) -> bytes:
    for entry in opened:
        if entry.name == member.path and entry.isreg():  # a link could name any other entry
            stream = opened.extractfile(entry)
            assert stream is not None
            with stream:
                return _checked(stream, member)
    raise AssetError(f"the archive holds no {member.path}")


def _checked(stream: IO[bytes], member: Member) -> bytes:
    data = stream.read(
        member.size + 1
    )  # one more than due is enough to know that a bomb is no member of ours
    if len(data) != member.size or hashlib.sha256(data).hexdigest() != member.sha256:
        raise AssetError(f"{member.path} is damaged or altered (wrong checksum); it was not kept")
    return data
