"""Series: a CSV file with a time column; forecast the next values of one column from a window of past rows.

Raw is one input `window`, float32 `[n, window, columns]` in the data's units; answers are `[n, horizon]`, in
the target's.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from trainyard import arrays, files
from trainyard.arrays import Array, Rows
from trainyard.errors import BadInput
from trainyard.kinds import Examples, Masked, Measures, Prepared, Preprocessing, delimited, few, read_rows
from trainyard.params import Expectation, Series
from trainyard.quality import baselines, leaks, splits
from trainyard.quality.baselines import Baseline
from trainyard.quality.importance import Part
from trainyard.quality.leaks import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

MOST_PARTS = 24
"""How many lags, of all columns together, are masked one by one."""

GAPS = 100
"""Rows that the grid of `step` may have for each row of the file, and for as many that are not there."""

SEASONS = {"s": 60, "min": 60, "h": 24, "D": 7, "B": 5, "W": 52, "M": 12, "ME": 12, "MS": 12, "QS": 4, "QE": 4}
"""Rows in a season, by the pandas offset between two rows."""


class NoWindow(BadInput):
    """The rows are well, but no answer can be given to them."""


class Windows:
    """Windows of a series, cut when they are asked for: an array `[n, window, columns]` that needs no room."""

    def __init__(self, values: Rows, starts: Array, window: int) -> None:
        """`values` `[time, columns]`; `starts` `[n]`, the first row of each window."""
        self.values, self.starts, self.window = values, starts, window
        self.shape, self.dtype = (len(starts), window, values.shape[1]), values.dtype

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Array:
        return self.values[self.starts[index][..., None] + np.arange(self.window)]


def manifest(spec: Series) -> pd.DataFrame:
    """One row a time step: time, row of the file, and the columns, NaN for missing; indexed by the time.

    With `step`, rows that the file leaves out are there, with all values missing.
    """
    path = Path(spec.path)
    cells = delimited.read(path, spec.delimiter, columns=[spec.time, *_columns(spec), *spec.where])
    table = _table(spec, cells)
    if (known := table[spec.target].notna().sum()) < spec.window + spec.horizon:
        raise BadInput(
            f"{path}: {known} known value(s) of `{spec.target}`: no future to predict "
            f"(window {spec.window} + horizon {spec.horizon} take {spec.window + spec.horizon} rows in each split)"
        )
    return table


def expectations(spec: Series, manifest: pd.DataFrame) -> list[Expectation]:
    """Every row has its own time."""
    return [Expectation(column="time", not_null=True, unique=True)]


def split(spec: Series, manifest: pd.DataFrame, seed: int) -> pd.Series:
    """In time order, whatever the seed; a window lies wholly in one split."""
    parts = pd.Series(splits.in_time(len(manifest), spec.split.validation, spec.split.test), index=manifest.index)
    counts = {name: len(_starts(spec, manifest[parts == name])) for name in splits.SPLITS}
    for name, count in counts.items():
        if not count:
            raise BadInput(
                f"{spec.path}: the {name} part has {int((parts == name).sum())} rows and no future to predict "
                f"(window {spec.window} + horizon {spec.horizon} take {spec.window + spec.horizon} rows without a gap)"
            )
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    log.info("%s: windows without a gap: %s, of %d rows", spec.path, told, len(manifest))
    return parts


def contents(spec: Series, manifest: pd.DataFrame) -> pd.Series:
    """The times; values may well come twice."""
    return manifest["time"].astype(str)


def likeness(spec: Series, manifest: pd.DataFrame) -> pd.Series:
    """The times, as above."""
    return contents(spec, manifest)


def groups(spec: Series, manifest: pd.DataFrame) -> pd.Series | None:
    """None: time keeps the splits apart."""
    return None


def audit(spec: Series, manifest: pd.DataFrame, parts: pd.Series) -> Iterator[Finding]:
    """Windows of two splits that share a time, with what they forecast, and columns that hold the target's future."""
    yield from leaks.overlaps(pd.concat([_spans(spec, manifest[parts == name], name) for name in splits.SPLITS]))
    furthest = spec.window + spec.horizon - 1
    yield from leaks.futures(manifest[_columns(spec)], spec.target, furthest, spec.audit_allow)


def facts(spec: Series, manifest: pd.DataFrame) -> dict[str, Any]:
    """Columns, the step between rows and the rows in a season."""
    step = spec.step or (_frequency(manifest["time"]) if spec.regular else None)
    season = spec.season or _season(step)
    reason = "as params say" if spec.season else f"by the step {step}" if step else "there is no step to tell one by"
    log.info("%s: season of %d row(s), %s", spec.path, season, reason)
    return {"columns": _columns(spec), "step": step, "season": season}


def write(spec: Series, facts: Mapping[str, Any], manifest: pd.DataFrame, folder: Path) -> None:
    """Float32 `values.npy` `[time, columns]` and `target.npy` `[n, horizon]`, int `starts.npy` `[n]`, `rows.csv`."""
    starts = _starts(spec, manifest)
    values = _filled(spec, manifest)
    ahead = starts[:, None] + spec.window + np.arange(spec.horizon)
    np.save(folder / "values.npy", values)
    np.save(folder / "starts.npy", starts)
    np.save(folder / "target.npy", manifest[spec.target].to_numpy(np.float32)[ahead])
    last = manifest.index[starts + spec.window - 1]
    files.write_csv(folder / "rows.csv", pd.DataFrame({"time": last}, index=last.rename("example")))


def read(spec: Series, facts: Mapping[str, Any], folder: Path) -> Examples:
    """Windows over values that stay on the disk; an example is named by the time of its last known row."""
    windows = Windows(arrays.Stored(folder / "values.npy"), np.load(folder / "starts.npy"), spec.window)
    return Examples({"window": windows}, np.load(folder / "target.npy"), read_rows(folder))


def decode(spec: Series, facts: Mapping[str, Any], table: pd.DataFrame) -> tuple[dict[str, Array], pd.Index]:
    """Rows as the CSV has them, in time order: one answer for each row that ends a whole window, named by its time."""
    for column in (spec.time, *_columns(spec)):
        if column not in table:
            raise BadInput(f"no column `{column}` in the rows to answer")
    if table.empty:
        raise BadInput("no rows to answer")
    where = {column: value for column, value in spec.where.items() if column in table}
    cells = table.astype(dict.fromkeys([spec.time, *where], str))
    if not (pd.api.types.is_integer_dtype(cells.index) and cells.index.is_unique):
        cells = cells.reset_index(drop=True)
    rows = _table(spec.model_copy(update={"path": "rows", "where": where}), cells.rename_axis("row"))
    values = _filled(spec, rows)
    ends = np.flatnonzero(_whole(values, spec.window))
    if not len(ends):
        told = f"{len(rows)} rows hold no whole window (expected {spec.window} rows in a row without a missing value)"
        if len(lacks := rows[_columns(spec)].isna().sum().loc[lambda count: count > 0]):
            told += f"; missing: {', '.join(f'`{column}` in {count}' for column, count in lacks.items())}"
        raise NoWindow(told)
    return {"window": Windows(values, ends, spec.window)[:]}, rows.index[ends + spec.window - 1]


def preprocessing(spec: Series, facts: Mapping[str, Any], train: Examples) -> Preprocessing:
    """Columns scaled to mean 0 and variance 1; the core learns the change from the window's last value, scaled too."""
    import keras
    from keras import layers

    values = _windows(train).values
    mean, variance, _ = arrays.moments(lambda: arrays.in_parts(values))
    place = facts["columns"].index(spec.target)
    scale = float(np.std(train.target - _last(train, place))) or 1.0
    window = keras.Input((spec.window, len(facts["columns"])), name="window")
    features = layers.Normalization(mean=mean, variance=np.where(variance > 0, variance, 1))(window)
    return Preprocessing(
        {"window": window},
        features,
        answer=lambda output: layers.Add()(
            [layers.Rescaling(scale, name="units")(output), window[:, -1, place : place + 1]]
        ),
        anew=True,
        learns=lambda examples: (examples.target - _last(examples, place)) / scale,
    )


def compared(spec: Series, data: Prepared) -> tuple[Baseline, Baseline]:
    """The value one season ago, and exponential smoothing (ETS) fitted on what comes before the test."""
    place = data.facts["columns"].index(spec.target)
    parts = [_windows(part) for part in (data.train, data.validation, data.test)]
    series = np.concatenate([part.values[:, place] for part in parts]).astype(np.float64)
    known, season = len(series) - len(parts[2].values), data.facts["season"]
    origins = known + parts[2].starts + spec.window - 1
    return (
        Baseline(f"seasonal naive ({season})", baselines.seasonal_naive(series, origins, spec.horizon, season)),
        Baseline("ETS", baselines.ets(series, known, origins, spec.horizon, season)),
    )


def mistakes(spec: Series, facts: Mapping[str, Any], test: Examples, answer: Array) -> "Figure":
    """The windows with the greatest errors, with what was forecast and what came."""
    from trainyard import figures

    place = facts["columns"].index(spec.target)
    error = np.abs(test.target - answer).mean(axis=1)
    worst = np.argsort(-error, kind="stable")[:6]
    return figures.forecasts(
        test.raw["window"][worst][..., place], test.target[worst], answer[worst], test.rows.index[worst]
    )


def masked(spec: Series, facts: Mapping[str, Any], train: Examples, test: Examples, seed: int) -> Iterator[Masked]:
    """Each lag of each column with its mean over training windows; lag 1 ends the window, long windows go by spans."""
    places = few(test, seed)
    windows, mean = test.raw["window"][places], train.raw["window"][few(train, seed)].mean(axis=0)
    for part, lacking in _lacking(spec, facts, windows, mean):
        yield Masked(part, places, {"window": lacking})


def without(spec: Series, facts: Mapping[str, Any], raw: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """One window with each lag of each column as the column's mean over the window."""
    windows = raw["window"]
    for part, lacking in _lacking(spec, facts, windows, np.broadcast_to(windows[0].mean(axis=0), windows.shape[1:])):
        yield part, {"window": lacking}


def importances(spec: Series, test: Examples, answer: Array, parts: Sequence[Part], table: pd.DataFrame) -> "Figure":
    """A bar a lag."""
    from trainyard import figures

    return figures.importances(table, "without the lag")


def fresh(spec: Series, facts: Mapping[str, Any]) -> pd.DataFrame:
    """As the manifest of any series: what it forecasts comes with the rows themselves."""
    return manifest(spec)


def measures(spec: Series, facts: Mapping[str, Any], train: pd.DataFrame, manifest: pd.DataFrame) -> Measures:
    """Of each column the level, less its training mean in the season, the seasonal naive forecast's error, and gaps."""
    found: Measures = {}
    season = facts["season"]
    for column in _columns(spec):
        means = train[column].groupby(_phases(train, train, facts)).mean()
        usual = means.reindex(_phases(train, manifest, facts)).fillna(train[column].mean()).to_numpy()
        values = manifest[column]
        found[f"{column} level"] = values - usual
        found[f"{column} error of the seasonal naive"] = (values - values.shift(season)).abs()
        found[f"{column} missing"] = values.isna().astype(float)
    return found


def _phases(train: pd.DataFrame, table: pd.DataFrame, facts: Mapping[str, Any]) -> Array:
    """Where in the season each row stands, `[n]`, counted from the first training row."""
    if facts["step"] is None or facts["season"] == 1:
        return np.zeros(len(table), int)
    grid = pd.date_range(train["time"].iloc[0], table["time"].iloc[-1], freq=facts["step"])
    return grid.get_indexer(pd.Index(table["time"]), method="pad") % facts["season"]


def _columns(spec: Series) -> list[str]:
    columns = spec.columns or [spec.target]
    return columns if spec.target in columns else [*columns, spec.target]


def _table(spec: Series, cells: pd.DataFrame) -> pd.DataFrame:
    path = Path(spec.path)
    for column, value in spec.where.items():
        cells = cells[cells[column] == value]
        if cells.empty:
            raise BadInput(f"{path}: no row has `{value}` in column `{column}`")
    table = pd.DataFrame(
        {"time": _times(spec, cells[spec.time]), "row": cells.index.to_numpy(np.float64)}, index=cells.index
    )
    for column in _columns(spec):
        table[column] = delimited.numbers(path, cells[column], spec.missing)
    late = table["time"].diff() <= pd.Timedelta(0)
    if late.any():
        told = cells[spec.time][late].iloc[0]
        raise BadInput(
            f"{path}:{delimited.first(late)}: column `{spec.time}`: {told} is not later than the row before (sort the "
            "file, or take one series of several by `where`)"
        )
    table = _regular(spec, table)
    return table.set_index(pd.Index(table["time"].map(pd.Timestamp.isoformat), name="example"))


def _times(spec: Series, cells: pd.Series) -> pd.Series:
    times = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    bad = times.isna()
    if bad.any():
        told = f"{cells[bad].iloc[0]!r} is no time (expected ISO 8601: 2026-01-31, 2026-01-31T12:00)"
        raise BadInput(f"{spec.path}:{delimited.first(bad)}: column `{spec.time}`: {told}")
    if len(ahead := cells[times > pd.Timestamp.now() + pd.Timedelta(days=1)]):
        told = f"{ahead.iloc[0]!r} is yet to come; {len(ahead)} such row(s)"
        log.warning("%s:%s: column `%s`: %s", spec.path, ahead.index[0], spec.time, told)
    zoned = cells.str.fullmatch(r".*[T ].*(Z|[+-]\d\d(:?\d\d)?)")
    if (other := zoned != zoned.iloc[0]).any():
        told = f"{cells[other].iloc[0]!r} {'has' if not zoned.iloc[0] else 'lacks'} a time zone, unlike the rows before"
        raise BadInput(f"{spec.path}:{delimited.first(other)}: column `{spec.time}`: {told}")
    return times


def _season(step: str | None) -> int:
    """Rows in a season: 24 for `h`, 12 for `2h`; 1 where it is no whole number of steps."""
    if step is None:
        return 1
    offset = to_offset(step)
    rows = SEASONS.get(offset.base.freqstr.partition("-")[0], 1)
    return rows // offset.n if rows % offset.n == 0 else 1


def _regular(spec: Series, table: pd.DataFrame) -> pd.DataFrame:
    """The table on the grid of `step`; without one, raises BadInput where rows that should be regular are not."""
    times = table["time"]
    if spec.step is not None:
        first, last = times.iloc[0], times.iloc[-1]
        try:
            start = pd.date_range(first, periods=2, freq=spec.step)
            rows = (last - first) / (start[1] - start[0])
            if rows > GAPS * (len(times) + GAPS):
                told = f"step `{spec.step}` from {first.isoformat()} to {last.isoformat()} makes {rows:,.0f} rows"
                raise BadInput(f"{spec.path}: {told}, of which {len(times)} are there (is a time wrong, or the step?)")
            grid = pd.date_range(first, last, freq=spec.step)
        except (ValueError, ZeroDivisionError):
            raise BadInput(f"{spec.path}: step `{spec.step}` is no pandas offset (h, D, W-SAT, MS ...)") from None
        off = ~times.isin(grid)
        if off.any():
            grid_told = f"the grid of step `{spec.step}` from {times.iloc[0].isoformat()}"
            told = f"{times[off].iloc[0].isoformat()} is not on {grid_told}"
            raise BadInput(f"{spec.path}:{delimited.first(off)}: {told}")
        return table.set_index("time").reindex(grid).rename_axis("time").reset_index()
    if spec.regular and len(times) > 2 and _frequency(times) is None:
        gaps = times.diff()
        usual = gaps.mode().iloc[0]
        odd = (gaps - usual).abs().idxmax()  # not the first that differs: months do
        hint = "name the `step`, and rows that are not there count as missing; or say `regular: false`"
        raise BadInput(f"{spec.path}:{odd}: {gaps[odd]} after the row before, elsewhere {usual} ({hint})")
    return table


def _frequency(times: pd.Series) -> str | None:
    """The pandas offset between rows; None where they are not regular."""
    with pd.option_context("future.infer_freq_returns_offset", True):
        offset: Any = pd.infer_freq(times)
    return None if offset is None else offset.freqstr


def _filled(spec: Series, table: pd.DataFrame) -> Array:
    values = table[_columns(spec)]
    return (values.ffill(limit=spec.fill) if spec.fill else values).to_numpy(np.float32)


def _whole(values: Array, window: int) -> Array:
    """True for each row from which on `window` rows have no missing value: bool `[time - window + 1]`."""
    if len(values) < window:
        return np.zeros(0, bool)
    missing = np.concatenate([[0], np.cumsum(np.isnan(values).any(axis=1))])
    return missing[window:] == missing[:-window]


def _starts(spec: Series, table: pd.DataFrame) -> Array:
    """First rows of the windows that are whole and whose answers are known, not filled: int64 `[n]`."""
    whole = _whole(_filled(spec, table), spec.window)
    known = _whole(table[[spec.target]].to_numpy(), spec.horizon)[spec.window :]
    return np.flatnonzero(whole[: len(known)] & known)


def _spans(spec: Series, part: pd.DataFrame, name: str) -> pd.DataFrame:
    """The first and the last time of each window with what it forecasts, as `write` cuts them."""
    starts, times = _starts(spec, part), part["time"].to_numpy()
    last = starts + spec.window - 1
    ends = {"first": times[starts], "last": times[last + spec.horizon]}
    return pd.DataFrame({"split": name, **ends}, index=part.index[last])


def _lacking(spec: Series, facts: Mapping[str, Any], windows: Array, usual: Array) -> Iterator[tuple[str, Array]]:
    """Windows `[n, window, columns]` with each lag, or span of lags, of each column as in `usual`, one such window."""
    spans = np.array_split(np.arange(spec.window), min(spec.window, max(MOST_PARTS // len(facts["columns"]), 1)))
    for place, column in enumerate(facts["columns"]):
        for span in spans:
            last, first = spec.window - span[0], spec.window - span[-1]
            lags = f"lag {first}" if first == last else f"lags {first} to {last}"
            lacking = windows.copy()
            lacking[:, span, place] = usual[span, place]
            yield f"{column}, {lags}", lacking


def _windows(examples: Examples) -> Windows:
    return cast("Windows", examples.raw["window"])


def _last(examples: Examples, place: int) -> Array:
    windows = _windows(examples)
    return windows.values[windows.starts + windows.window - 1, place][:, None]
