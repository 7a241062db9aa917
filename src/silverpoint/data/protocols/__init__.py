"""What the published databases look like on disk, as lists of pairs: one module each."""

from collections.abc import Callable

from silverpoint.data.protocols.celeba import celeba
from silverpoint.data.protocols.cufs import cufs
from silverpoint.data.protocols.cufsf import cufsf
from silverpoint.data.protocols.folders import pairs
from silverpoint.data.protocols.fs2k import fs2k
from silverpoint.data.protocols.listing import Listing, Pair, Source

__all__ = ["PROTOCOLS", "Listing", "Pair", "Source"]

PROTOCOLS: dict[str, Callable[[Source], Listing]] = {
    "cufs": cufs,
    "cufsf": cufsf,
    "fs2k": fs2k,
    "celeba": celeba,
    "pairs": pairs,
}
