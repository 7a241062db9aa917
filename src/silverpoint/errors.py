"""The errors a person sees: one line that says what is wrong, with which file, and the way out."""


class SilverpointError(Exception):
    """Base of every error silverpoint raises on purpose. `str(error)` is one clear line for a person."""


class UsageError(SilverpointError):
    """The command or call itself is wrong (exit status 2)."""


class ImageError(SilverpointError):
    """An image cannot be read or written, or is not one we can work with."""


class FaceError(SilverpointError):
    """No face was found where one is needed, or the faces found do not allow what was asked."""


class ModelError(SilverpointError):
    """A model file is missing, damaged, or not one of ours."""


class AssetError(SilverpointError):
    """A third-party file cannot be fetched, or is not the file it should be."""


class DataError(SilverpointError):
    """A dataset folder is missing, damaged, or does not hold what is asked of it."""


class RunError(SilverpointError):
    """A run folder cannot be created, resumed, or read."""
