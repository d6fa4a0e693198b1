"""What a model must beat to be worth anything: a naive answer, and a classical method that takes seconds.

Answers have the shapes of `objectives`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainyard.arrays import Array, in_parts
from trainyard.quality.objectives import Objective

Floats = NDArray[np.floating]

MOST_ROWS = 5000
"""Training images or recordings that a classical method takes at most: more change little and take minutes."""
MOST_TEXTS = 20_000
"""Training texts that it takes at most."""
MOST_PIECES = 200_000
"""Pieces of words that a classical classifier of texts tells apart at most, the most frequent ones."""
FITTED_ROWS = 2000
"""Rows of a series that exponential smoothing is fitted on at most: what is older says little, and takes minutes."""


@dataclass(frozen=True)
class Baseline:
    """The answers of something simpler."""

    name: str
    answer: Floats


def naive(objective: Objective, target: Array, n: int) -> Baseline:
    """The answers of someone who knows the training targets alone."""
    name = "shares of the classes" if objective.classifies else "mean"
    name = "the most frequent transcript" if objective.name == "transcription" else name
    return Baseline(name, objective.naive(target, n))


def of_table(objective: Objective, table: pd.DataFrame, target: Array, asked: pd.DataFrame) -> Baseline:
    """Logistic regression for classes, gradient boosting for numbers, from tables of float and text columns.

    Numbers are scaled, missing ones take the median; categories are one-hot.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = list(table.select_dtypes("number"))
    others = [column for column in table if column not in numbers]
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((scaled, numbers), (one_hot, others))
    if objective.classifies:
        model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(table, target)
        return Baseline("logistic regression", _probabilities(objective, model.predict_proba(asked)))
    model = make_pipeline(columns, HistGradientBoostingRegressor(random_state=0)).fit(table, target[:, 0])
    return Baseline("gradient boosting", model.predict(asked)[:, None])


def of_images(objective: Objective, images: Any, target: Array, asked: Any) -> Baseline:
    """Logistic regression on pixels, of images brought to 32 pixels a side at most."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    picks = _some(target, MOST_ROWS)
    # stronger regularisation than the default: there are more pixels than images
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are enough for a baseline, converged or not
        model.fit(np.concatenate([_pooled(images[part]) for part in in_parts(picks, 256)]), target[picks])
    answers = [model.predict_proba(_pooled(part)) for part in in_parts(asked, 256)]
    return Baseline("linear model on pixels", _probabilities(objective, np.concatenate(answers)))


def _some(target: Array, most: int) -> Array:
    """Rows, `most` at most and one of each class at least, or a rare one would have no probability; ascending."""
    order = np.random.default_rng(0).permutation(len(target))
    one_each = order[np.unique(target[order], return_index=True)[1]]
    return np.union1d(one_each, order[:most])


def of_recordings(clips: Sequence[Floats], said: Array, asked: Sequence[Floats], rate: int) -> Baseline:
    """The transcript of the training recording whose spectrogram, stretched to one length, is nearest.

    `clips` and `asked` are samples `[time]` at `rate` a second.
    """
    from sklearn.neighbors import NearestNeighbors

    picks = np.sort(np.random.default_rng(0).permutation(len(clips))[:MOST_ROWS])
    known = NearestNeighbors(n_neighbors=1, metric="cosine").fit(_stretched([clips[pick] for pick in picks], rate))
    nearest = known.kneighbors(_stretched(asked, rate), return_distance=False)[:, 0]
    return Baseline("nearest recording", said[picks][nearest].astype(object))


def _stretched(clips: Sequence[Floats], rate: int, frames: int = 32) -> Floats:
    """Log power in bands of 125 Hz and in `frames` equal parts of each recording, centred: `[n, features]`."""
    from scipy.signal import stft

    size = rate // 125
    found = []
    for clip in clips:
        sound = np.pad(np.asarray(clip, np.float64), (0, max(0, size - len(clip))))
        power = np.log(np.abs(stft(sound, rate, nperseg=size)[2]) ** 2 + 1e-9)
        place = np.linspace(0, power.shape[1] - 1, frames).round().astype(int)
        found.append((power - power.mean(axis=1, keepdims=True))[:, place].ravel())
    return np.stack(found)


def of_texts(objective: Objective, texts: Array, target: Array, asked: Array) -> Baseline:
    """Logistic regression on TF-IDF of the pieces of one to four characters that words are made of."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, max_features=MOST_PIECES)
    # weaker regularisation than the default: rows of TF-IDF are short
    model = make_pipeline(pieces, LogisticRegression(C=100, max_iter=1000))
    picks = _some(target, MOST_TEXTS)
    model.fit(texts[picks], target[picks])
    return Baseline("n-gram logistic regression", _probabilities(objective, model.predict_proba(asked)))


def seasonal_naive(series: Floats, origins: Array, horizon: int, season: int) -> Floats:
    """The last known value of the same place in the season: `[n, horizon]`.

    `series` `[time]` with NaN for missing, `origins` `[n]` the last known row of each example. Where that value is
    missing, one season earlier and so on; where none is known, the last value.
    """
    ahead = np.arange(1, horizon + 1)
    place = origins[:, None] + ahead - season * -(-ahead // season)
    answer = np.where(place >= 0, series[np.maximum(place, 0)], np.nan)
    while np.isnan(answer).any() and (place >= season).any():
        place = place - season
        answer = np.where(np.isnan(answer) & (place >= 0), series[np.maximum(place, 0)], answer)
    return np.where(np.isnan(answer), series[origins][:, None], answer)


def ets(series: Floats, known: int, origins: Array, horizon: int, season: int) -> Floats:
    """Exponential smoothing with a damped trend and, where two seasons are known, an additive season: `[n, horizon]`.

    Hyndman et al., Forecasting with Exponential Smoothing, 2008, in the state space form of statsmodels. Its parameters
    are fitted on the last `FITTED_ROWS` of the `known` rows; the forecasts then use all from there up to each origin.
    """
    from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

    oldest = max(0, known - FITTED_ROWS)  # the season of the fit begins there: what is older would be out of step
    start = oldest + int(np.argmax(~np.isnan(series[oldest:])))
    past, seasonal = series[start:known], season if 1 < season <= 60 and known - start >= 2 * season else None
    shape = {"trend": True, "damped_trend": True, "seasonal": seasonal}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops early is a weaker baseline, not a fault of the user's
        whole = pd.Series(past).interpolate().to_numpy()  # the first guess knows no missing values
        guess = ExponentialSmoothing(whole, **shape).start_params
        fitted = ExponentialSmoothing(past, **shape).fit(guess, disp=False, maxiter=50)
        smoothed = ExponentialSmoothing(series[start:], **shape).filter(fitted.params)
    transition, design = smoothed.model.ssm["transition"], smoothed.model.ssm["design"]
    states = smoothed.predicted_state[:, origins + 1 - start]  # the state that the rows up to the origin foretell
    answer = np.empty((len(origins), horizon))
    for step in range(horizon):
        answer[:, step] = (design @ states)[0]
        states = transition @ states
    return answer


def _probabilities(objective: Objective, both: Floats) -> Floats:
    return both[:, 1:] if objective.name == "binary" else both


def _pooled(images: Array) -> Floats:
    n, height, width, channels = images.shape
    by, across = -(-height // 32), -(-width // 32)
    cut = images[:, : height // by * by, : width // across * across]
    pooled = cut.reshape(n, height // by, by, width // across, across, channels).mean(axis=(2, 4), dtype=np.float32)
    return pooled.reshape(n, -1)
