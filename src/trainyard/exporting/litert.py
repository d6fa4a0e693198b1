"""LiteRT (once TensorFlow Lite): files of one example a call, in floats or in whole numbers of 8 bits.

Recurrent layers are loops there, which want to know the size of a batch when they are converted.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trainyard.arrays import Array
from trainyard.exporting.graphs import Graph, Session

SIGNATURE = "serving_default"
BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operations whose third input is a bias, or -1."""
WHOLE = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)
"""What a bias can be."""


def convert(graph: Graph, path: Path) -> None:
    """Write a file that runs on LiteRT's own operations, without TensorFlow's."""
    import tensorflow as tf

    takes = {
        name: tf.TensorSpec([1, *told["shape"][1:]], told["dtype"], name=name) for name, told in graph.inputs.items()
    }
    graph.model.export(
        path,
        format="litert",
        verbose=False,
        input_signature=[takes],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
    )


def quantize(graph: Graph, path: Path, calibration: Sequence[Mapping[str, Array]]) -> None:
    """Have the core of a file count in int8, by the ranges that its values have over examples of one row each.

    Preprocessing stays in floats, as columns of a table have ranges of their own, and so does the last activation,
    whose probabilities would be 256ths (Jacob et al., 2018). The whole range counts: the moving average that is the
    quantizer's default cuts off what is rare, and a MobileNet loses points by it. Biases are corrected by a quarter of
    the examples: a mean needs fewer than a range.
    """
    from ai_edge_quantizer import Quantizer
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    recipe, content = RecipeManager(), path.read_bytes()
    recipe.add_static_config(rf".*\b{graph.core}_\d+/.*", "*", activation_num_bits=8, weight_num_bits=8)
    for where, operation in ((r".*\bresizing.*", "*"), (".*", "SOFTMAX"), (".*", "LOGISTIC")):
        recipe.add_quantization_config(where, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    with warnings.catch_warnings(action="ignore"):  # to keep the values of all layers takes memory
        ranges = Calibrator(content, num_threads=1, qsv_update_func=min_max_update)
        ranges.calibrate({SIGNATURE: calibration}, recipe)
        quantizer = Quantizer(content, recipe.get_quantization_recipe())
        found = quantizer.quantize(ranges.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    path.write_bytes(correct_biases(content, bytes(found.quantized_model), calibration[::4]))


def correct_biases(floats: bytes, quantized: bytes, examples: Sequence[Mapping[str, Array]]) -> bytes:
    """A file in int8 whose layers' outputs have means over the examples that are nearer to those of the file in floats.

    A channel's rounded weights move its outputs by much the same, whatever is asked, and over the 28 layers of a
    MobileNet that adds up (Nagel et al., 2019, appendix D; here behind the activation, which is one with its layer).
    Each layer is asked anew once those below are corrected; one without a bias stays as it is.
    """
    from ai_edge_litert.schema_py_generated import TensorType
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(quantized)
    for buffer in model.buffers:
        if buffer.data is not None:  # bytes would be written one by one
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    tensors = model.subgraphs[0].tensors
    biases = {
        tensors[operation.outputs[0]].name.decode(): tensors[place]
        for operation in model.subgraphs[0].operators
        if flatbuffer_utils.opcode_to_name(model, operation.opcodeIndex) in BIASED
        for place in operation.inputs[2:]
        if place >= 0 and tensors[place].type == TensorType.INT32  # where it counts in floats, they are floats
    }
    wanted = _means(floats, examples, biases)
    for layer, bias in biases.items():
        lost = wanted[layer] - _means(quantized, examples, [layer])[layer]
        buffer = model.buffers[bias.buffer]
        shifted = buffer.data.view(np.int32) + np.rint(lost / bias.quantization.scale)
        whole = np.clip(shifted, *WHOLE).astype(np.int32)  # a dead channel's scale is next to nothing
        buffer.data = whole.view(np.uint8)
        quantized = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return quantized


def _means(content: bytes, examples: Iterable[Mapping[str, Array]], names: Iterable[str]) -> dict[str, Array]:
    """Of tensors in a file, by name: the mean of each channel over the examples, in floats, `[channels]`."""
    from ai_edge_quantizer.utils import tfl_interpreter_utils

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # as above
        interpreter = tfl_interpreter_utils.create_tfl_interpreter(content, num_threads=1)
    details = tfl_interpreter_utils.get_tensor_name_to_details_map(interpreter)
    run = interpreter.get_signature_runner(SIGNATURE)
    means: dict[str, list[Array]] = {name: [] for name in names}
    for example in examples:
        run(**example)
        for name, found in means.items():
            values = tfl_interpreter_utils.get_tensor_data(interpreter, details[name])
            found.append(values.mean(axis=tuple(range(values.ndim - 1)), dtype=np.float64))
    return {name: np.mean(found, axis=0) for name, found in means.items()}


def session(path: Path) -> Session:
    """What answers to one row of a file's inputs."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(SIGNATURE)

    def ask(fed: Mapping[str, Array]) -> Array:
        (answer,) = run(**fed).values()
        return np.array(answer)

    return ask
