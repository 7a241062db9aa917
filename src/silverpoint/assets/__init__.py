"""Third-party weights: named, pinned, checksummed, fetched on first use, converted without running anything.

    from silverpoint import assets
    path = assets.fetch("vgg19")  # a checked .safetensors (or .onnx) in the user's cache

Importing this package imports neither torch, numpy nor any network library.
"""

from silverpoint.assets.cache import State, cache_dir, fetch, state
from silverpoint.assets.manifest import ASSETS, Archive, Asset, Member

__all__ = ["ASSETS", "Archive", "Asset", "Member", "State", "cache_dir", "fetch", "manifest", "state"]


def manifest() -> list[Asset]:
    """Every asset there is, in the order of the manifest."""
    return list(ASSETS.values())
