"""Where the person is: U-2-Net p (Qin et al. 2020), through ONNX Runtime, from the asset `u2netp`."""

from functools import lru_cache

import numpy as np
from PIL import Image

SIZE = 320
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def saliency(photo: np.ndarray, *, threads: int = 0) -> np.ndarray:
    """photo (H, W, 3) uint8 RGB -> (H, W) uint8, 255 on the salient person, stretched to its full range.

    `threads` is how many it computes on; 0 for one a core.
    """
    small = np.asarray(
        Image.fromarray(photo).resize((SIZE, SIZE), Image.Resampling.BILINEAR), dtype=np.float32
    )
    x = (small / max(float(small.max()), 1.0) - MEAN) / STD
    session = _session(threads)
    out = session.run(None, {session.get_inputs()[0].name: x.transpose(2, 0, 1)[None]})[0][0, 0]
    low, high = float(out.min()), float(out.max())
    mask = Image.fromarray(((out - low) / max(high - low, 1e-6) * 255 + 0.5).astype(np.uint8))
    return np.asarray(mask.resize(photo.shape[1::-1], Image.Resampling.BILINEAR))


@lru_cache(maxsize=2)
def _session(threads: int):  # type: ignore[no-untyped-def]
    import onnxruntime

    from silverpoint.assets import fetch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # see synthesis/model.py
    return onnxruntime.InferenceSession(str(fetch("u2netp")), options, providers=["CPUExecutionProvider"])
