"""The parser's ONNX graph, without weights: what faces/layout.py runs where there is no torch.

    python -m silverpoint.training.parser_graph src/silverpoint/faces/bisenet.onnx

The weights are not ours to ship. Every initializer is declared external under its name in the asset `bisenet`, from
which the reader supplies it.
"""

import sys
from pathlib import Path

import onnx
import torch
from onnx import TensorProto

from silverpoint.nets.bisenet import BiSeNet
from silverpoint.training.checkpoint import write_whole


def parser_graph() -> bytes:
    """The ONNX file of BiSeNet.forward: image (1, 3, H, W) RGB in [0, 1], H and W multiples of 32 -> logits."""
    rows, columns = (32 * torch.export.Dim(name, min=2, max=64) for name in ("rows", "columns"))
    net = BiSeNet()
    program = torch.onnx.export(
        net,
        (torch.rand(1, 3, 128, 96),),
        dynamo=True,
        optimize=False,  # it would fold the weights into constants of other names
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({2: rows, 3: columns},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    names = net.state_dict().keys()
    for weight in model.graph.initializer:
        if weight.name in names:
            _leave_out(weight)
    return model.SerializeToString()


def _leave_out(weight: TensorProto) -> None:
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="bisenet")


if __name__ == "__main__":
    graph = parser_graph()
    onnx.load_from_string(graph)
    write_whole(Path(sys.argv[1]), graph)
