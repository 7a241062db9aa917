"""Which photos are to be drawn, and to which files."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from silverpoint.errors import UsageError
from silverpoint.image import WRITABLE

# fmt: off
PHOTO_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
    ".avif", ".jp2", ".tga", ".heic", ".heif",
})
# fmt: on
FOLDERS = {"sketch": "sketches", "photo": "photos"}  # what is drawn -> how a folder of it is called


@dataclass(frozen=True, slots=True)
class Job:
    """One photo and the file its drawing goes to; or, with `error`, why there is none to be drawn."""

    source: str
    target: str = ""
    error: str | None = None


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    kind: str = "sketch",
    variant: Sequence[str] = (),
    recursive: bool = False,
    all_faces: bool = False,
) -> list[Job]:
    """The photos that `inputs` (files, folders, glob patterns) name, each once, and where their drawings go.

    Without `output` the drawing of me.jpg is me-sketch.png beside it, and that of a photo in the folder
    `album` has the photo's name in album-sketches (`kind` "photo": me-photo.png, album-photos). What `variant`
    says of how it is drawn follows: me-sketch-fs2k1-face.png, album-sketches-fs2k1-face. Else `output`
    is the file for a single photo, or the folder for all. Two photos never share a drawing, nor is one's called
    as another's numbered face might be: where names clash they take the photo's suffix in, then its folder's
    name. A drawing that lies beside its photo is no photo, nor is what lies in album-sketches beside album,
    where both are in a folder that is searched.

    Raises UsageError if the inputs and the output do not go together.
    """
    sources = _without_drawings(_sources(inputs, recursive, output, kind), kind)
    photos = [source for source in sources if source.error is None]
    if output is not None and len(sources) == 1 and photos and not photos[0].root and not _is_folder(output):
        check_file(output)
        targets = [output]
    else:
        if output is not None and (os.path.isfile(output) or _suffix(output) in PHOTO_SUFFIXES):
            raise UsageError(f"-o {output}: several photos need a folder, not a file")
        targets = _targets(photos, output, kind, _tag(variant))
    _refuse_overlap(photos, targets, numbered=output is not None and all_faces)
    target_of = dict(zip(photos, targets, strict=True))
    taken: dict[str, _Source] = {}
    jobs = []
    for source in sources:
        target = target_of.get(source, "")
        error = source.error
        if not error and taken.setdefault(target.casefold(), source) is not source:
            other = taken[target.casefold()].path
            error = f"{source.path}: would be drawn to {target}, as {other} is; draw it with another -o"
        jobs.append(Job(source.path, target, error))
    return jobs


def check_file(output: str) -> None:
    """UsageError if `output` is no file that a drawing can be written to."""
    if _is_folder(output):
        raise UsageError(f"-o {output}: is a folder; give the file to draw to")
    if _suffix(output) not in WRITABLE:
        raise UsageError(f"-o {output}: cannot write this kind of file; use one of {' '.join(WRITABLE)}")


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    root: str | None = None  # the folder it was found in, where a folder was given
    error: str | None = None


def _sources(inputs: Sequence[str], recursive: bool, output: str | None, kind: str) -> list[_Source]:
    """Every photo the inputs name, once; in a folder, those in `output` are no photos but drawings."""

    def drawn(folder: str) -> bool:
        above, name = os.path.split(folder)
        of = re.fullmatch(rf"(.+)-{FOLDERS[kind]}(-.+)?", name)
        beside = of is not None and os.path.isdir(os.path.join(above, of[1]))
        return beside or (output is not None and os.path.realpath(folder) == os.path.realpath(output))

    found: list[_Source] = []
    for name in inputs:
        if os.path.isdir(name):
            photos = sorted(_photos_in(name, name, recursive, drawn), key=lambda photo: photo.path)
            found += photos
            if not photos:
                hint = "" if recursive else "; --recursive looks into its folders too"
                found.append(_Source(name, error=f"{name}: no photos in this folder{hint}"))
        elif not os.path.lexists(name) and glob.has_magic(name):
            matches = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
            found += [_Source(path) for path in matches]
            if not matches:
                found.append(_Source(name, error=f"{name}: no file matches"))
        else:
            found.append(_Source(name))
    same = _canonicaliser()
    first: dict[str, _Source] = {}
    for source in found:
        first.setdefault(same(source.path), source)
    return list(first.values())


def _without_drawings(sources: list[_Source], kind: str) -> list[_Source]:
    """Leave out the drawings of an earlier run: me-sketch.png where me.jpg is another of the sources."""
    names = {name for source in sources for name in (source.path, os.path.splitext(source.path)[0])}
    drawing = re.compile(rf"(.+)-{kind}(-[^/]+)?\.png")
    return [s for s in sources if not ((match := drawing.fullmatch(s.path)) and match[1] in names)]


def _photos_in(folder: str, root: str, recursive: bool, drawn: Callable[[str], bool]) -> Iterator[_Source]:
    """The photos in a folder by their suffix, but not in folders of what was `drawn`, nor what is hidden."""
    try:
        entries = os.scandir(folder)
    except OSError as error:
        yield _Source(folder, error=f"{folder}: cannot be listed ({error.strerror})")
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if recursive and entry.is_dir(follow_symlinks=False):
                if not drawn(entry.path):
                    yield from _photos_in(entry.path, root, recursive, drawn)
            elif _suffix(entry.name) in PHOTO_SUFFIXES:
                try:
                    if entry.is_file():
                        yield _Source(entry.path, root)
                except OSError as error:  # a link that leads to itself
                    reason = f"cannot be read ({error.strerror})"
                    yield _Source(entry.path, root, error=f"{entry.path}: {reason}")


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_folder(output: str) -> bool:
    """Whether -o means a folder: there is one, or the name has no suffix."""
    return os.path.isdir(output) or output.endswith(("/", os.sep)) or not _suffix(output)


def numbered(path: str, number: int) -> str:
    """me.png -> me-face1.png"""
    root, suffix = os.path.splitext(path)
    return f"{root}-face{number}{suffix}"


def _targets(photos: list[_Source], output: str | None, kind: str, tag: str) -> list[str]:
    """A file for each photo, in order: as short a name as no other photo has, nor one of another's faces."""
    targets = [_target(photo, output, kind, tag, 0) for photo in photos]
    for level in (1, 2):
        counts = Counter(target.casefold() for target in targets)
        clashing = [counts[t] > 1 or _of_face(t) in counts for t in map(str.casefold, targets)]
        if not any(clashing):
            break
        targets = [
            _target(photo, output, kind, tag, level) if clashes else target
            for photo, target, clashes in zip(photos, targets, clashing, strict=True)
        ]
    return targets


def _of_face(target: str) -> str | None:
    """me-face1.png -> me.png: the drawing whose photo has this one for a face, if it has."""
    match = re.fullmatch(r"(.+)-face\d+(\.\w+)", target)
    return match and match[1] + match[2]


def _tag(variant: Sequence[str]) -> str:
    """-fs2k1-face; the names are the user's, and shall lead to no other folder."""
    return "".join("-" + re.sub(r"[^\w.+-]", "_", word) for word in variant)


def _target(photo: _Source, output: str | None, kind: str, tag: str, level: int) -> str:
    """The drawing of me.jpg: me.png; to avoid others me.jpg.png (level 1) or folder-me.jpg.png (level 2)."""
    above = os.path.dirname(photo.path) if photo.root is None else photo.root
    folder, name = os.path.split(photo.path[len(os.path.join(above, "")) :] if above else photo.path)
    if level == 0:
        name = os.path.splitext(name)[0]
    if level == 2:
        name = f"{os.path.basename(os.path.dirname(os.path.abspath(photo.path)))}-{name}"
    if output is None and photo.root is None:
        return os.path.join(os.path.dirname(photo.path), f"{name}-{kind}{tag}.png")
    if output is None:
        root = (photo.root or "").rstrip("/" + os.sep)
        if os.path.basename(root) in ("", ".", ".."):
            root = os.path.abspath(root)
        output = f"{root}-{FOLDERS[kind]}{tag}"
    return os.path.join(output, folder, f"{name}.png")


def _refuse_overlap(photos: list[_Source], targets: list[str], numbered: bool) -> None:
    """UsageError if a photo would be drawn over, or might be as the targets are still to be numbered."""
    same = _canonicaliser()
    sources = {same(photo.path).casefold(): photo.path for photo in photos}  # case may not matter to the disk
    folders = {os.path.dirname(path) for path in sources} if numbered else set()
    for target in targets:
        path = same(target).casefold()
        if path in sources or os.path.dirname(path) in folders:
            over = sources.get(path, "the photos in its folder")
            raise UsageError(f"{target}: would be drawn over {over}; choose another folder with -o")


def _canonicaliser() -> Callable[[str], str]:
    """A function that gives the same text for every way to write a path; it asks the disk once per folder."""
    folders: dict[str, str] = {}

    def canonical(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.normcase(os.path.join(folders[folder], name))

    return canonical
