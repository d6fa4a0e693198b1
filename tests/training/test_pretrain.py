"""Pretraining: what is drawn of figures, what each task asks, and that a backbone learns and arrives in a model."""

import keras
import numpy as np
import pytest
from PIL import Image

from trainyard import cli, files
from trainyard.errors import BadInput, TrainingFailed
from trainyard.models import pretrained
from trainyard.params import Backbone, Drawing, Pretrain
from trainyard.training import pretrain

STILL = Drawing(size=(1, 1), stretch=1, rotate=0, shift=0, saturation=(1, 1), contrast=(1, 1), noise=0)


def shapes(count=4, side=16):
    """Figures that differ in outline and colour: RGBA uint8 `[count, side, side, 4]`."""
    shown = np.zeros((count, side, side, 4), np.uint8)
    for number, figure in enumerate(shown):
        figure[2 : 6 + 3 * number, 3 : side - 3, number % 3] = 255
        figure[2 : 6 + 3 * number, 3 : side - 3, 3] = 255
    return shown


def block(**knobs):
    return Pretrain(**{"figures": "figures", "side": 32, "batch_size": 8, "steps": 40, **knobs})


def write(folder, shown):
    folder.mkdir(parents=True)
    for number, figure in enumerate(shown):
        Image.fromarray(figure).save(folder / f"{number}.png")


# === Figures ===


def test_figures_are_read_in_order_from_all_folders(tmp_path):
    write(tmp_path / "a", shapes()[:1])
    write(tmp_path / "b", shapes()[1:])
    paths, shown = pretrain.figures(tmp_path)
    assert [path.parent.name for path in paths] == ["a", "b", "b", "b"]
    np.testing.assert_array_equal(shown, shapes())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "1.png").unlink(), "1 PNG files"),
        (lambda folder: (folder / "1.png").write_bytes(b"no"), r"1\.png: no readable PNG"),
        (lambda folder: Image.new("RGBA", (16, 12)).save(folder / "1.png"), r"12x16 pixels \(expected a square, 16x16"),
    ],
)
def test_figures_that_are_none_are_refused(tmp_path, change, told):
    write(tmp_path / "figures", shapes(2))
    change(tmp_path / "figures")
    with pytest.raises(BadInput, match=told):
        pretrain.figures(tmp_path / "figures")


# === Drawing ===


def drawn(spec, numbers, side=16, seed=1, shown=None):
    layer = pretrain.Drawn(shapes() if shown is None else shown, spec, side, len(numbers), seed)
    return layer, np.asarray(layer(np.asarray(numbers, np.int32)))


def test_a_figure_as_it_is_lies_on_its_ground():
    layer = pretrain.Drawn(shapes(), STILL, 16, 2, 1)
    columns, rows = np.meshgrid(np.arange(16.0), np.arange(16.0))
    placed = (np.float32([columns] * 2), np.float32([rows] * 2))
    sampled = np.asarray(layer._sampled(keras.ops.convert_to_tensor(np.int32([1, 3])), *placed))
    np.testing.assert_allclose(sampled, shapes()[[1, 3]] / 255, atol=1e-6)


def test_between_pixels_colours_are_between_and_outside_there_is_nothing():
    layer = pretrain.Drawn(shapes(), STILL, 2, 1, 1)
    columns, rows = np.float32([[[7.0, 7.0], [40.0, -9.0]]]), np.float32([[[1.5, 2.0], [4.0, 4.0]]])
    sampled = np.asarray(layer._sampled(keras.ops.convert_to_tensor(np.int32([0])), columns, rows))
    np.testing.assert_allclose(sampled[0, :, :, 0], [[0.5, 1], [0, 0]], atol=1e-6)


def test_drawings_differ_from_call_to_call_and_come_again_with_the_seed():
    spec = Drawing(clutter=2)
    layer, first = drawn(spec, [0, 1, 2, 3])
    second = np.asarray(layer(np.arange(4, dtype=np.int32)))
    _, again = drawn(spec, [0, 1, 2, 3])
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert first.shape == (4, 16, 16, 3)
    assert first.min() >= -1
    assert first.max() <= 1


def test_a_grown_figure_covers_more():
    def covers(size):
        full = np.full((2, 16, 16, 4), 255, np.uint8)
        layer = pretrain.Drawn(full, STILL.model_copy(update={"size": (size, size)}), 32, 1, 1)
        return np.asarray(layer._sampled(keras.ops.convert_to_tensor(np.int32([0])), *layer._placed((size, size), 0.0)))

    assert covers(0.5)[..., 3].mean() == pytest.approx(0.25, abs=0.04)
    assert covers(1.0)[..., 3].mean() > 0.9


# === Tasks ===


def test_identity_is_cross_entropy_with_smoothed_labels():
    keras.utils.set_random_seed(1)
    layer, features = pretrain.Identity(4, 0.1), np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    numbers = np.int32([0, 3, 1])
    losses = np.asarray(layer(features, numbers))
    labels = np.eye(4)[numbers] * 0.9 + 0.1 / 4
    wanted = keras.losses.categorical_crossentropy(labels, layer.told(features), from_logits=True)
    np.testing.assert_allclose(losses, np.asarray(wanted), rtol=1e-5)


def test_contrast_is_least_where_drawings_of_a_figure_are_alike():
    keras.utils.set_random_seed(1)
    layer, numbers = pretrain.Contrast(0.1), np.int32([0, 1, 2])
    features = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    alike, shuffled = (np.mean(layer(features, other, numbers)) for other in (features, features[[1, 2, 0]]))
    assert alike < shuffled


def test_another_drawing_of_the_same_figure_is_no_wrong_answer():
    keras.utils.set_random_seed(1)
    layer, features = pretrain.Contrast(0.1), np.ones((2, 8), np.float32)
    np.testing.assert_allclose(layer(features, features, np.int32([4, 4])), 0, atol=1e-5)
    np.testing.assert_allclose(layer(features, features, np.int32([4, 5])), np.log(2), atol=1e-4)


def test_the_distance_to_a_teacher_is_a_share_of_what_varies():
    random = np.random.default_rng(0)
    wanted = random.normal(0, 3, (64, 4, 4, 2)).astype(np.float32)
    assert np.asarray(pretrain.Distance()(wanted, wanted)).max() == 0
    np.testing.assert_allclose(np.mean(pretrain.Distance()(wanted * 0, wanted)), 1, rtol=0.1)


# === Training ===


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs", [{"task": "identity", "label_smoothing": 0.0, "steps": 160}, {"task": "contrast", "steps": 320}]
)
def test_a_backbone_learns_to_tell_figures_apart(knobs):
    keras.utils.set_random_seed(1)
    spec = block(**knobs, draw=STILL.model_copy(update={"noise": 0.05}))
    backbone, history = pretrain.train(spec, shapes(), 1)
    assert history["loss"].iloc[-3:].mean() < 0.7 * history["loss"].iloc[:3].mean()
    assert history.index[-1] == spec.steps
    assert backbone.input_shape == (None, 32, 32, 3)


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher_which_stays_as_it_is(monkeypatch):
    keras.utils.set_random_seed(1)
    teacher, source = pretrained.resolve(Backbone(width=0.25, weights="embedded"))
    before = teacher.get_weights()
    monkeypatch.setattr(pretrained, "resolve", lambda spec: (teacher, source))
    spec = block(task="distillation", match=["conv_pw_3_bn"], steps=100, learning_rate=0.01)
    _, history = pretrain.train(spec, shapes(), 1)
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_layer_that_is_not_there_cannot_be_matched(monkeypatch):
    spec = block(task="distillation", match=["conv_pw_99"])
    source = pretrained.resolve(spec.backbone)
    monkeypatch.setattr(pretrained, "resolve", lambda asked: source)
    with pytest.raises(BadInput, match="no layer `conv_pw_99`"):
        pretrain.build(spec, shapes(), 1)


def test_a_loss_that_is_not_finite_ends_it():
    progress = pretrain.Progress(10, [])
    with pytest.raises(TrainingFailed, match="step 5: the loss is nan"):
        progress.on_train_batch_end(4, {"loss": float("nan")})


def test_the_history_has_the_mean_of_each_part():
    progress = pretrain.Progress(40, rows := [])
    for step in range(40):
        progress.on_train_batch_end(step, {"loss": (step + 1) / 2})  # mean of 0.5, 1.5, 2.5 ...
    assert [row["step"] for row in rows] == [*range(2, 41, 2)]
    assert [row["loss"] for row in rows] == pytest.approx([step - 1 for step in range(2, 41, 2)])


def project(folder, **knobs):
    write(folder / "figures", shapes())
    recipe = {"figures": "figures", "side": 32, "batch_size": 4, "steps": 2, **knobs}
    told = ", ".join(f"{key}: {value}" for key, value in recipe.items())
    (folder / "params.yaml").write_text(
        f"datasets: {{}}\nevaluate: {{}}\npretrain: {{mine: {{{told}}}}}\ntraining: {{device: cpu}}\n"
    )


@pytest.mark.slow
def test_the_command_leaves_weights_that_a_model_can_stand_on(here, caplog):
    project(here)
    assert cli.main(["pretrain", "mine"]) == 0
    line = caplog.messages[-1]
    path, sha256 = here / "pretrained/mine/backbone.weights.h5", line.rpartition("sha256: ")[2].rstrip("}")
    assert path.stat().st_size < 1_000_000
    network, source = pretrained.resolve(Backbone(width=0.25, weights=str(path), sha256=sha256))
    assert source.name.endswith("pretrained/mine/backbone.weights.h5")
    assert network.get_weights()[0].dtype == np.float32
    assert (here / "pretrained/mine/figures.csv").read_text().splitlines()[0] == "figure,sha256_of_pixels"
    assert (here / "pretrained/mine/history.csv").exists()
    told = files.read_json(here / "pretrained/mine/backbone.json")
    assert (told["weights"], told["sha256"], told["seed"]) == ("mine", sha256, 1)
    assert {key: told["recipe"][key] for key in ("figures", "task", "teacher", "steps")} == {
        "figures": "figures",
        "task": "identity",
        "teacher": None,
        "steps": 2,
    }


@pytest.mark.parametrize(
    ("name", "knobs", "told"),
    [
        ("yours", {}, "there is no backbone to pretrain `yours`; valid: mine"),
        ("mine", {"figures": "nowhere"}, "nowhere: 0 PNG files"),
        ("mine", {"match": "[conv1]"}, "pretrain.mine: `match` is of `task: distillation` alone"),
        ("mine", {"steps": 0}, "pretrain.mine.steps: "),
        ("mine", {"figures": "pretrained/mine/figures"}, "pretrain.mine.figures: they lie in pretrained/mine, which"),
        (
            "mine",
            {"task": "contrast", "label_smoothing": 0.2},
            "mine: `label_smoothing` is of `task: identity` alone",
        ),
        ("mine", {"temperature": 0.2}, "pretrain.mine: `temperature` is of `task: contrast` alone"),
    ],
)
def test_a_mistake_gets_one_line(here, capsys, name, knobs, told):
    project(here, **knobs)
    assert cli.main(["pretrain", name]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (here / "pretrained").exists()


@pytest.mark.slow
def test_jax_pretrains_too(here):
    import os
    import subprocess
    import sys

    pytest.importorskip("jax")
    project(here, steps=40)
    text = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(text.replace("device: cpu", "device: cpu, engine: jax"))
    command = [sys.executable, "-m", "trainyard.cli", "pretrain", "mine"]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "engine: jax" in done.stderr
    assert "step 40/40 loss" in done.stderr
    assert (here / "pretrained/mine/backbone.weights.h5").exists()
