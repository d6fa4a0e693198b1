"""LiteRT (once TensorFlow Lite): files of one example a call, in floats or in whole numbers of 8 bits.

Recurrent layers are loops there, which want to know the size of a batch when they are converted.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from trainyard.arrays import Array
from trainyard.exporting.graphs import Graph, Session

SIGNATURE = "serving_default"


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


def quantize(graph: Graph, path: Path, calibration: Iterable[Mapping[str, Array]]) -> None:
    """Have the core of a file count in int8, by the ranges that its values have over examples of one row each.

    Preprocessing stays in floats, as columns of a table have ranges of their own, and so does the last activation,
    whose probabilities would be 256ths (Jacob et al., 2018). The whole range counts: the moving average that is the
    quantizer's default cuts off what is rare, and a MobileNet loses points by it.
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
    path.write_bytes(found.quantized_model)


def session(path: Path) -> Session:
    """What answers to one row of a file's inputs."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(SIGNATURE)

    def ask(fed: Mapping[str, Array]) -> Array:
        (answer,) = run(**fed).values()
        return np.array(answer)

    return ask
