"""Face embedders behind one interface: aligned crops in, vectors out whose cosine says how alike two people are.

Every network sees the face where it was trained to see it. The crops are aligned by protocol, so that is one
fixed transform per network, and no detector, which finds some drawings and not others, comes between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from silverpoint.assets import ASSETS, fetch
from silverpoint.faces.align import CUFS, similarity, warp

Network = Callable[[np.ndarray], np.ndarray]

# The five points of the mean training photo of CUFS (40 each of CUHK, AR and XM2VTS, by YuNet): eyes, nose tip,
# mouth corners in the 200x250 crop.
FACE = np.array([[74.8, 124.9], [125.2, 124.8], [100.1, 154.4], [79.0, 178.9], [121.4, 178.8]])
# ArcFace's points on 112x112, those of SFace as well.
ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


@dataclass(frozen=True)
class Embedder:
    """Crops (250, 200) or (250, 200, 3) uint8 in the CUFS frame -> unit vectors (n, D) float32.

    Colour is dropped (Pillow's L): a drawing has none, and identity must not hang on it. `licence` and `terms`
    are those of the weights.
    """

    name: str
    asset: str
    side: int
    matrix: np.ndarray  # (2, 3), from the crop to the network's square
    network: Network  # (n, side, side) uint8 -> (n, D)

    @property
    def licence(self) -> str:
        return ASSETS[self.asset].licence

    @property
    def terms(self) -> str:
        return ASSETS[self.asset].terms

    def __call__(self, images: Sequence[np.ndarray], batch: int = 8) -> np.ndarray:
        from silverpoint.image import to_grey

        found = []
        for start in range(0, len(images), batch):
            crops = [to_grey(np.asarray(images[i])) for i in range(start, min(start + batch, len(images)))]
            for crop in crops:
                if crop.shape != (CUFS.height, CUFS.width):
                    raise ValueError(
                        f"embedders take aligned crops of {CUFS.width}x{CUFS.height}, "
                        f"not {crop.shape[1]}x{crop.shape[0]}"
                    )
            squares = np.stack([warp(crop, self.matrix, (self.side, self.side)) for crop in crops])
            vectors = np.asarray(self.network(squares), np.float32)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            found.append(vectors / np.where(lengths > 0, lengths, 1.0))
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def load_embedder(name: str = "lightcnn") -> Embedder:
    """One of EMBEDDERS, its weights fetched on first use. Raises ValueError for another name, AssetError if
    the weights cannot be had."""
    if name not in EMBEDDERS:
        raise ValueError(f"no embedder is called {name!r}; there are {', '.join(EMBEDDERS)}")
    return EMBEDDERS[name].load()


def _lightcnn() -> Embedder:
    """LightCNN-v4, aligned as its authors test it: eyes at row 40, mouth 48 rows below, grey in [0, 1]."""
    from safetensors.torch import load_file

    from silverpoint.nets.lightcnn import SIDE, LightCNN

    net = LightCNN()
    net.load_state_dict(load_file(fetch("lightcnn")))
    middles = np.stack([FACE[:2].mean(axis=0), FACE[3:].mean(axis=0)])
    matrix = similarity(middles, [[63.5, 40.0], [63.5, 88.0]])
    return Embedder("lightcnn", "lightcnn", SIDE, matrix, _torch_network(net, lambda x: x / 255))


def _facenet() -> Embedder:
    """FaceNet, which sees a face detector's box and so more of the head than ArcFace does."""
    from safetensors.torch import load_file

    from silverpoint.nets.facenet import SIDE, FaceNet

    net = FaceNet()
    net.load(load_file(fetch("facenet128")))
    points = (ARCFACE - 55.5) * (SIDE / 112 * FACENET_ZOOM) + (SIDE - 1) / 2

    def whiten(x: np.ndarray) -> np.ndarray:
        mean, deviation = x.mean(axis=(1, 2), keepdims=True), x.std(axis=(1, 2), keepdims=True)
        return (x - mean) / np.maximum(deviation, 1 / SIDE)

    return Embedder("facenet", "facenet128", SIDE, similarity(FACE, points), _torch_network(net, whiten))


FACENET_ZOOM = 0.85  # of rank-1 over CUFS training pairs among 1, .85, .7


def _sface() -> Embedder:
    """SFace (Zhong et al. 2021), of the OpenCV Zoo; its graph normalises."""
    return Embedder("sface", "sface", 112, similarity(FACE, ARCFACE), _onnx_network("sface", lambda x: x))


def _w600k() -> Embedder:
    """MobileFaceNet trained with ArcFace on WebFace600K, of InsightFace: for non-commercial research."""
    network = _onnx_network("w600k", lambda x: (x - 127.5) / 127.5)
    return Embedder("w600k", "w600k", 112, similarity(FACE, ARCFACE), network)


class Offer(NamedTuple):
    asset: str
    load: Callable[[], Embedder]


EMBEDDERS = {
    "lightcnn": Offer("lightcnn", _lightcnn),
    "sface": Offer("sface", _sface),
    "facenet": Offer("facenet128", _facenet),
    "w600k": Offer("w600k", _w600k),
}


def _rgb(squares: np.ndarray, normalise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(n, side, side) uint8 -> (n, 3, side, side) float32, the grey in each channel."""
    grey = normalise(squares.astype(np.float32)).astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(grey[:, None], (len(grey), 3, *grey.shape[1:])))


def _torch_network(net, normalise: Callable[[np.ndarray], np.ndarray]) -> Network:  # type: ignore[no-untyped-def]
    import torch

    @torch.inference_mode()
    def network(squares: np.ndarray) -> np.ndarray:
        return np.asarray(net(torch.from_numpy(_rgb(squares, normalise))))

    return network


def _onnx_network(asset: str, normalise: Callable[[np.ndarray], np.ndarray]) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # SFace's file lists its weights as inputs, each worth a warning
    session = onnxruntime.InferenceSession(str(fetch(asset)), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def network(squares: np.ndarray) -> np.ndarray:
        return np.concatenate([session.run(None, {name: one[None]})[0] for one in _rgb(squares, normalise)])

    return network
