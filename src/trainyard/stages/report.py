"""Stage `report`: one page about all data and all models, for a browser and for a pull request.

In:   reports/, models/, the names in params
Out:  report/index.html, report/report.md
Exit: 2 there are no results yet
"""

import logging
from pathlib import Path

from trainyard import files, reporting
from trainyard.params import Params
from trainyard.reporting import results

log = logging.getLogger(__name__)


def report(params: Params) -> None:
    """Write `report/` from the results of all datasets and models that params name."""
    found = results.read(params)
    with files.replacing_folder(Path("report")) as folder:
        files.write_text(folder / "index.html", reporting.render("report.html", report=found))
        files.write_text(folder / "report.md", reporting.render("report.md", report=found))
    log.info("report/index.html: %d datasets, %d models", len(found.groups), len(found.models))
