"""ONNX: files of any number of examples a call, for ONNX Runtime and whatever else reads them."""

from collections.abc import Mapping
from pathlib import Path

from trainyard.arrays import Array
from trainyard.exporting.graphs import Graph, Session

OPSET = 18
"""Of December 2022: ONNX Runtime knows it from 1.14 on."""


def convert(graph: Graph, path: Path) -> None:
    """Write a file in `OPSET`.

    Not by `keras.Model.export`, which makes inputs of the constants that a graph holds (Keras 3.15, tf2onnx 1.17).
    """
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    takes = [tf.TensorSpec(told["shape"], told["dtype"], name=name) for name, told in graph.inputs.items()]

    @tf.function(input_signature=takes, autograph=False)  # type: ignore[untyped-decorator]
    def answer(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        return graph.model(dict(zip(graph.inputs, values, strict=True)), training=False)

    frozen = convert_variables_to_constants_v2(
        answer.get_concrete_function(), lower_control_flow=False, aggressive_inlining=True
    )
    names = {f"{name}:0": name for name in graph.inputs} | {frozen.outputs[0].name: "answer"}
    *inputs, output = names
    tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(add_shapes=True),
        name=graph.core,
        input_names=inputs,
        output_names=[output],
        opset=OPSET,
        tensors_to_rename=names,
        output_path=path,
    )


def session(path: Path) -> Session:
    """What answers to rows of a file's inputs."""
    import onnxruntime

    opened = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def ask(fed: Mapping[str, Array]) -> Array:
        (answer,) = opened.run(None, dict(fed))
        return answer

    return ask
