"""The encoder as an ONNX graph: BERT with 6 layers, the mean over the words, length 1.

The architecture is BERT's (Devlin et al. 2018, arXiv:1810.04805, as configured in the model's `config.json`); the mean
over tokens and the normalisation are sentence-transformers' (its `modules.json`). Query, key and value are one product.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.encoder.weights import Tensors

LAYERS = 6
HIDDEN = 384
HEADS = 12
EPSILON = 1e-12
OPSET = 20
IR_VERSION = 9
MASKED = -10_000.0  # added to the score of a padding token

Array = npt.NDArray[np.float32]


@dataclass
class _Graph:
    """Nodes and constants while they are put together; names come from a counter, so builds are the same."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, to: str = "", attributes: dict[str, object] | None = None) -> str:
        output = to or f"{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [output], f"node_{output}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
        self.nodes.append(node)
        return output

    def constant(self, name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def dense(self, name: str, inputs: str, weight: Array, bias: Array) -> str:
        product = self.add("MatMul", inputs, self.constant(f"{name}.weight", weight.T))
        return self.add("Add", product, self.constant(f"{name}.bias", bias))

    def normalised(self, name: str, inputs: str, weights: Tensors) -> str:
        scale = self.constant(f"{name}.scale", weights[f"{name}.weight"])
        shift = self.constant(f"{name}.shift", weights[f"{name}.bias"])
        attributes: dict[str, object] = {"axis": -1, "epsilon": EPSILON}
        return self.add("LayerNormalization", inputs, scale, shift, attributes=attributes)


def build(weights: Tensors) -> onnx.ModelProto:
    """The model: int64 `ids` and `mask` [batch, tokens] to float32 `vectors` [batch, 384] of length 1."""
    graph = _Graph()
    _shapes(graph)
    hidden = _embedded(graph, weights)
    mask = graph.add("Cast", "mask", attributes={"to": TensorProto.FLOAT})
    blocked = _blocked(graph, mask)
    for index in range(LAYERS):
        hidden = _layer(graph, weights, f"encoder.layer.{index}", (hidden, blocked))
    _pooled(graph, hidden, mask)
    return _model(graph)


def _shapes(graph: _Graph) -> None:
    graph.constant("shape.heads", np.array([0, 0, HEADS, HIDDEN // HEADS], np.int64))
    graph.constant("shape.joined", np.array([0, 0, HIDDEN], np.int64))
    graph.constant("axis.1", np.array([1], np.int64))
    graph.constant("axes.1.2", np.array([1, 2], np.int64))
    graph.constant("axis.last", np.array([-1], np.int64))
    graph.constant("scale", np.array((HIDDEN // HEADS) ** -0.5, np.float32))


def _embedded(graph: _Graph, weights: Tensors) -> str:
    """Word, position and (always the first) segment, added and normalised."""
    words = graph.add("Gather", graph.constant("words", weights["embeddings.word_embeddings.weight"]), "ids")
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("positions", weights["embeddings.position_embeddings.weight"] + segment)
    length = graph.add("Shape", "ids", attributes={"start": 1, "end": 2})
    start = graph.constant("zero", np.array([0], np.int64))
    positions = graph.add("Slice", table, start, length)
    return graph.normalised("embeddings.LayerNorm", graph.add("Add", words, positions), weights)


def _blocked(graph: _Graph, mask: str) -> str:
    """What is added to the scores [batch, 1, 1, tokens]: nothing for words, a large negative number for padding."""
    inverse = graph.add("Sub", graph.constant("one", np.array(1, np.float32)), mask)
    far = graph.add("Mul", inverse, graph.constant("masked", np.array(MASKED, np.float32)))
    return graph.add("Unsqueeze", far, "axes.1.2")


def _layer(graph: _Graph, weights: Tensors, name: str, inputs: tuple[str, str]) -> str:
    hidden, _ = inputs
    attended = _attention(graph, weights, f"{name}.attention.self", inputs)
    weight, bias = _pair(weights, f"{name}.attention.output.dense")
    out = graph.dense(f"{name}.attention.output.dense", attended, weight, bias)
    hidden = graph.normalised(f"{name}.attention.output.LayerNorm", graph.add("Add", out, hidden), weights)
    weight, bias = _pair(weights, f"{name}.intermediate.dense")
    wide = graph.add("Gelu", graph.dense(f"{name}.intermediate.dense", hidden, weight, bias))
    weight, bias = _pair(weights, f"{name}.output.dense")
    out = graph.dense(f"{name}.output.dense", wide, weight, bias)
    return graph.normalised(f"{name}.output.LayerNorm", graph.add("Add", out, hidden), weights)


def _attention(graph: _Graph, weights: Tensors, name: str, inputs: tuple[str, str]) -> str:
    hidden, blocked = inputs
    pairs = [_pair(weights, f"{name}.{part}") for part in ("query", "key", "value")]
    weight = np.concatenate([weight for weight, _ in pairs])
    bias = np.concatenate([bias for _, bias in pairs])
    together = graph.dense(name, hidden, weight, bias)
    parts = [f"{name}.{part}" for part in ("q", "k", "v")]
    graph.nodes.append(helper.make_node("Split", [together], parts, f"{name}.split", axis=-1, num_outputs=3))
    query, key, value = (_by_head(graph, part, order) for part, order in zip(parts, ("qv", "k", "qv"), strict=True))
    scores = graph.add("Mul", graph.add("MatMul", query, key), "scale")
    shares = graph.add("Softmax", graph.add("Add", scores, blocked), attributes={"axis": -1})
    mixed = graph.add("Transpose", graph.add("MatMul", shares, value), attributes={"perm": [0, 2, 1, 3]})
    return graph.add("Reshape", mixed, "shape.joined")


def _by_head(graph: _Graph, part: str, order: str) -> str:
    """[batch, tokens, 384] to [batch, heads, tokens, 32], or with the last two axes swapped for keys."""
    permutation = [0, 2, 3, 1] if order == "k" else [0, 2, 1, 3]
    return graph.add("Transpose", graph.add("Reshape", part, "shape.heads"), attributes={"perm": permutation})


def _pair(weights: Tensors, name: str) -> tuple[Array, Array]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _pooled(graph: _Graph, hidden: str, mask: str) -> None:
    """The mean over the words, made one long."""
    kept = graph.add("Mul", hidden, graph.add("Unsqueeze", mask, "axis.last"))
    total = graph.add("ReduceSum", kept, "axis.1", attributes={"keepdims": 0})
    mean = graph.add("Div", total, graph.add("ReduceSum", mask, "axis.1", attributes={"keepdims": 1}))
    length = graph.add("ReduceL2", mean, "axis.last", attributes={"keepdims": 1})
    graph.add("Div", mean, length, to="vectors")


def _model(graph: _Graph) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("ids", "mask")]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", HIDDEN])]
    body = helper.make_graph(graph.nodes, "minilm-l6-v2", inputs, outputs, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="imagemesh")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model
