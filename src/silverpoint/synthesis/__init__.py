"""The user's wing: draw with exported models, on ONNX Runtime, numpy and Pillow alone."""
