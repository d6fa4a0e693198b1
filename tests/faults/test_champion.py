"""A champion that is deleted while somebody asks it."""

import pandas as pd
import pytest


@pytest.mark.fault(
    number=27,
    what="the champion's version is deleted while it is loaded",
    then="who has loaded it goes on; loading it again is refused; `ledger` names the loss, `register` brings it back",
)
def test_a_champion_that_is_deleted_while_it_is_asked(yard):
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(f"sqlite:///{yard.folder}/mlruns/mlflow.db")
    rows = pd.read_csv(yard.folder / "golden.csv")
    try:
        loaded = mlflow.pyfunc.load_model("models:/m@champion")
        yard.registry.delete_model_version("m", "1")
        assert loaded.predict(rows)["p_1"].tolist() == pytest.approx(yard.golden, abs=1e-6)
        with pytest.raises(MlflowException, match="champion"):
            mlflow.pyfunc.load_model("models:/m@champion")
    finally:
        mlflow.set_tracking_uri(None)
    yard.run("trainyard ledger m")
    assert "the registry has lost its champion, version 1" in yard.told
    yard.run("trainyard register m")
    assert "version 2 is champion" in yard.told
    yard.holds()
