"""TensorFlow takes seconds to import: stages that train and ask no model never do."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from trainyard import cli
assert cli.main(["check"]) == 0
assert cli.main(["validate", "tumours"]) == 0
assert cli.main(["prepare", "tumours"]) == 0
import trainyard.stages.register, trainyard.stages.report
print(sorted({"tensorflow", "keras", "mlflow", "matplotlib", "scipy", "sklearn"} & set(sys.modules)))
"""


def test_data_stages_import_no_tensorflow(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1]
    assert "tensorflow" not in loaded
    assert "keras" not in loaded
    assert "mlflow" not in loaded
    assert (tmp_path / "build" / "tumours" / "facts.json").is_file()
