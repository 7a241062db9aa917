"""Who is drawn: face embeddings, and how often the right person is found or accepted by them."""

from silverpoint.recognition.embedders import EMBEDDERS, Embedder, load_embedder
from silverpoint.recognition.nlda import NLDA, nlda, nlda_of_gram, pixel_gram
from silverpoint.recognition.ranking import cmc, rank_rate, ranks, similarities
from silverpoint.recognition.verification import Verification, verification_rate

__all__ = [
    "EMBEDDERS",
    "NLDA",
    "Embedder",
    "Verification",
    "cmc",
    "load_embedder",
    "nlda",
    "nlda_of_gram",
    "pixel_gram",
    "rank_rate",
    "ranks",
    "similarities",
    "verification_rate",
]
