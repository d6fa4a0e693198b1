import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

from trainyard.quality import baselines
from trainyard.quality.metrics import chosen
from trainyard.quality.objectives import BINARY, FORECAST, MULTICLASS, REGRESSION

NAN = float("nan")


@pytest.mark.parametrize(
    ("objective", "target", "name", "answer"),
    [
        (BINARY, np.array([0, 1, 1, 1]), "shares of the classes", [[0.75]] * 3),
        (MULTICLASS, np.array([0, 1, 1, 2]), "shares of the classes", [[0.25, 0.5, 0.25]] * 3),
        (REGRESSION, np.array([[1.0], [3.0]]), "mean", [[2.0]] * 3),
    ],
)
def test_naive_knows_the_training_targets_alone(objective, target, name, answer):
    found = baselines.naive(objective, target, 3)
    assert (found.name, found.answer.tolist()) == (name, answer)


# === Tables ===


def table(n, seed, colours=("red", "green", "")):
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 9, n).astype(np.float32)
    size[::5] = NAN
    return pd.DataFrame({"size": size, "colour": rng.choice(colours, n), "empty": np.full(n, NAN, np.float32)})


def by_hand(frame, of):
    """Median for missing, mean 0 and variance 1 as in training, a column for each category that training has."""
    values = frame["size"].fillna(of["size"].median())
    spread = of["size"].fillna(of["size"].median())
    columns = [(values - spread.mean()) / spread.std(ddof=0), np.zeros(len(frame))]
    columns += [(frame["colour"] == colour).astype(float) for colour in sorted(of["colour"].unique())]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(("objective", "classes"), [(BINARY, 2), (MULTICLASS, 3)])
def test_tables_of_classes_are_answered_by_logistic_regression(objective, classes):
    train, asked = table(60, 0), table(20, 1, ("red", "blue"))  # blue is new
    target = np.random.default_rng(2).integers(0, classes, 60)
    found = baselines.of_table(objective, train, target, asked)
    expected = LogisticRegression(max_iter=1000).fit(by_hand(train, train), target).predict_proba(by_hand(asked, train))
    assert found.name == "logistic regression"
    np.testing.assert_allclose(found.answer, expected[:, 1:] if classes == 2 else expected, atol=1e-3)


def test_tables_of_numbers_are_answered_by_gradient_boosting():
    train, asked = table(60, 0), table(20, 1)
    target = np.random.default_rng(2).normal(size=(60, 1))
    found = baselines.of_table(REGRESSION, train, target, asked)
    expected = HistGradientBoostingRegressor(random_state=0).fit(by_hand(train, train), target[:, 0])
    assert found.name == "gradient boosting"
    np.testing.assert_allclose(found.answer[:, 0], expected.predict(by_hand(asked, train)))


@pytest.mark.parametrize("columns", [["size"], ["colour"]])
def test_tables_may_have_columns_of_one_sort_alone(columns):
    target = np.random.default_rng(2).integers(0, 2, 60)
    found = baselines.of_table(BINARY, table(60, 0)[columns], target, table(20, 1)[columns])
    assert found.answer.shape == (20, 1)
    assert ((found.answer > 0) & (found.answer < 1)).all()


# === Images ===


@pytest.mark.parametrize(
    ("size", "pooled"),
    [((8, 8), (8, 8)), ((32, 32), (32, 32)), ((64, 48), (32, 24)), ((33, 20), (16, 20)), ((100, 8), (25, 8))],
)
def test_images_are_brought_to_32_pixels_a_side_at_most_by_their_mean(size, pooled):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    found = baselines._pooled(images).reshape(2, *pooled, 3)
    by, across = -(-size[0] // 32), -(-size[1] // 32)
    np.testing.assert_allclose(found[1, 0, 0], images[1, :by, :across].mean(axis=(0, 1)), rtol=1e-5)
    last = images[1, (pooled[0] - 1) * by : pooled[0] * by, (pooled[1] - 1) * across : pooled[1] * across]
    np.testing.assert_allclose(found[1, -1, -1], last.mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize(("objective", "classes"), [(BINARY, 2), (MULTICLASS, 3)])
def test_images_are_answered_by_a_linear_model_of_at_most_some_rows(monkeypatch, objective, classes):
    monkeypatch.setattr(baselines, "MOST_ROWS", 40)
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, 90)
    images = (rng.integers(0, 99, (90, 4, 4, 1)) + 60 * target[:, None, None, None]).astype(np.uint8)
    found = baselines.of_images(objective, images, target, images[:7])
    rows = np.sort(np.random.default_rng(0).permutation(90)[:40])
    train = images[rows].reshape(40, -1).astype(np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(C=0.01, max_iter=200).fit((train - mean) / spread, target[rows])
    expected = model.predict_proba((images[:7].reshape(7, -1) - mean) / spread)
    assert found.name == "linear model on pixels"
    np.testing.assert_allclose(found.answer, expected[:, 1:] if classes == 2 else expected, atol=1e-4)


# === Texts ===


@pytest.mark.parametrize(("objective", "classes"), [(BINARY, 2), (MULTICLASS, 3)])
def test_texts_are_answered_by_logistic_regression_on_pieces_of_words(objective, classes):
    endings = ["ing", "tion", "ness"]
    stems = ["read", "walk", "play", "jump", "sing", "work"]
    texts = np.array([f"{stem}{endings[i]} 12" for stem in stems for i in range(classes)], object)
    asked = np.array([f"Kindl{ending}" for ending in endings[:classes]] + [""], object)  # new words with known endings
    found = baselines.of_texts(objective, texts, np.arange(len(texts)) % classes, asked)
    assert found.name == "n-gram logistic regression"
    assert found.answer.shape == (len(asked), classes if classes > 2 else 1)
    assert chosen(found.answer)[:classes].tolist() == list(range(classes))
    assert np.isfinite(found.answer).all()


# === Series ===


@pytest.mark.parametrize(
    ("series", "origins", "horizon", "season", "answer"),
    [
        ([1, 2, 3, 4, 5, 6], [5], 1, 1, [[6]]),  # the last value
        ([1, 2, 3, 4, 5, 6], [5], 3, 3, [[4, 5, 6]]),
        ([1, 2, 3, 4, 5, 6], [5], 5, 3, [[4, 5, 6, 4, 5]]),  # beyond a season: the same season again
        ([1, 2, 3, 4, 5, 6], [3, 5], 2, 2, [[3, 4], [5, 6]]),
        ([1, 2, 3, 4, 5, NAN, 7], [6], 2, 2, [[4, 7]]),  # missing: one season earlier
        ([1, 2, NAN, 4, NAN, 6], [5], 1, 2, [[1]]),  # two seasons earlier
        ([NAN, 2, NAN, 4, NAN, 6], [5], 1, 2, [[6]]),  # never known: the last value
        ([1, 2, 3], [2], 2, 9, [[3, 3]]),  # a season is not known yet
        ([-1, -2, -3, -4], [3], 2, 2, [[-3, -4]]),
    ],
)
def test_seasonal_naive_is_the_last_known_value_of_that_place_in_the_season(series, origins, horizon, season, answer):
    found = baselines.seasonal_naive(np.array(series, float), np.array(origins), horizon, season)
    assert found.tolist() == answer


def monthly(n, seed=0, noise=0.5):
    time = np.arange(n)
    return 10 + 0.05 * time + 3 * np.sin(2 * np.pi * time / 4) + np.random.default_rng(seed).normal(0, noise, n)


@pytest.mark.filterwarnings("ignore")  # of the fit that is compared with
@pytest.mark.parametrize("season", [1, 4])
def test_ets_is_that_of_statsmodels_from_every_origin(season):
    series, known, horizon = monthly(70), 50, 5
    origins = np.array([50, 55, 64, 69])
    found = baselines.ets(series, known, origins, horizon, season)
    shape = {"trend": True, "damped_trend": True, "seasonal": season if season > 1 else None}
    parameters = (
        ExponentialSmoothing(series[:known], **shape).fit(disp=False, maxiter=50, warn_convergence=False).params
    )
    for origin, answer in zip(origins, found, strict=True):
        theirs = ExponentialSmoothing(series[: origin + 1], **shape).filter(parameters).forecast(horizon)
        np.testing.assert_allclose(answer, theirs, rtol=1e-6)


def test_ets_does_not_see_what_comes_after_its_origin():
    series = monthly(60)
    before = baselines.ets(series, 45, np.array([45, 49]), 3, 4)
    series[50:] = 1e6
    np.testing.assert_array_equal(baselines.ets(series, 45, np.array([45, 49]), 3, 4), before)


@pytest.mark.parametrize("rows", [40, 41, 42, 43])
def test_ets_keeps_in_step_with_the_season_whichever_row_its_fit_begins_with(monkeypatch, rows):
    monkeypatch.setattr(baselines, "FITTED_ROWS", rows)
    series = monthly(104, noise=0.01)
    found = baselines.ets(series, 90, np.array([95, 99]), 4, 4)
    np.testing.assert_allclose(found, [series[96:100], series[100:104]], atol=0.2)


@pytest.mark.parametrize(
    "missing",
    [slice(0, 3), slice(2, 5), slice(30, 38), slice(46, 47), np.arange(0, 45, 7)],
    ids=["first rows", "early rows", "a long gap", "after the fit", "many rows"],
)
def test_ets_does_without_missing_values(missing):
    series = monthly(60, noise=0.05)
    whole = baselines.ets(series, 45, np.array([50]), 4, 4)
    series[missing] = NAN
    np.testing.assert_allclose(baselines.ets(series, 45, np.array([50]), 4, 4), whole, atol=0.4)


@pytest.mark.parametrize(
    ("series", "season", "answer"),
    [
        (np.full(30, 3.0), 1, [3, 3]),
        (np.full(30, 3.0), 4, [3, 3]),
        (-monthly(30, noise=0), 4, None),
        (np.arange(5.0), 4, None),  # too short for two seasons
        (np.arange(130.0) % 61, 61, None),  # a season of more rows than the method takes
    ],
    ids=["constant", "constant with a season", "negative", "short", "long season"],
)
def test_ets_answers_whatever_the_series(series, season, answer):
    found = baselines.ets(series, len(series) - 2, np.array([len(series) - 1]), 2, season)
    assert np.isfinite(found).all()
    if answer:
        np.testing.assert_allclose(found[0], answer, rtol=1e-6)


def test_baselines_of_forecasts_beat_the_mean_on_a_season():
    series = monthly(100)
    origins = np.arange(80, 95)
    came = series[origins[:, None] + np.arange(1, 5)]
    error = {
        "naive": FORECAST.metrics["mae"](came, baselines.seasonal_naive(series, origins, 4, 4)),
        "ets": FORECAST.metrics["mae"](came, baselines.ets(series, 80, origins, 4, 4)),
        "mean": FORECAST.metrics["mae"](came, np.full((15, 4), series[:80].mean())),
    }
    assert error["ets"] < error["naive"] < error["mean"]


def test_a_rare_class_has_a_probability_too():
    """A class that a draw of the training images would miss."""
    draw = np.random.default_rng(0)
    target = np.zeros(20_000, np.int32)
    target[::2], target[[5, 15_001]] = 1, 2
    images = draw.integers(0, 256, (len(target), 4, 4, 1), np.uint8)
    found = baselines.of_images(MULTICLASS, images, target, images[:30])
    assert found.answer.shape == (30, 3)
