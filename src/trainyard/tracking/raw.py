"""Raw rows: examples as they stand in the user's data, which is how a registered model is asked."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trainyard import kinds
from trainyard.errors import BadInput
from trainyard.params import Dataset, Images, Series, Speech, Tables, Text


def reader(spec: Dataset, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    """Read the data once; gives what finds the rows by which `kinds.KIND.decode` answers some examples."""
    return _READERS[type(spec)](spec, facts)


def as_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Raw rows as JSON has them: a file as its bytes in base64, null where there is no value."""

    def told(value: Any) -> Any:
        return b64encode(value).decode() if isinstance(value, bytes) else None if pd.isna(value) else value

    return [{str(column): told(value) for column, value in row.items()} for row in table.to_dict("records")]


def _tables(spec: Tables, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    table = kinds.of(spec).fresh(spec, facts)[[*facts["numeric"], *facts["categorical"]]]
    table.index = table.index.astype(str)
    return lambda examples: table.loc[examples]


def _images(spec: Images, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    return _contents(spec, "image")


def _speech(spec: Speech, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    return _contents(spec, "recording")


def _contents(spec: Dataset, column: str) -> Callable[[pd.Index], pd.DataFrame]:
    def content(example: str) -> bytes:
        path = Path(spec.path) / example
        try:
            return path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None

    return lambda examples: pd.DataFrame({column: [content(example) for example in examples]}, index=examples)


def _series(spec: Series, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    table = kinds.of(spec).fresh(spec, facts)[facts["columns"]]

    def rows(examples: pd.Index) -> pd.DataFrame:
        places = table.index.get_indexer(examples)
        first = max(int(places.min()) - spec.window - spec.fill + 1, 0)
        found = table.iloc[first : int(places.max()) + 1]
        return found.assign(**{spec.time: found.index})[[spec.time, *facts["columns"]]]

    return rows


def _text(spec: Text, facts: Mapping[str, Any]) -> Callable[[pd.Index], pd.DataFrame]:
    table = kinds.of(spec).fresh(spec, facts)[[spec.text]]
    table.index = table.index.astype(str)
    return lambda examples: table.loc[examples]


_READERS: Mapping[type[Dataset], Any] = {
    Tables: _tables,
    Images: _images,
    Series: _series,
    Text: _text,
    Speech: _speech,
}
