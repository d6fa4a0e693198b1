"""MLflow: runs while training goes on, and the registry. Files are the truth, MLflow shows them.

Importing this package does not import MLflow, which takes more than a second.
"""

from trainyard.tracking.registry import (
    Registered,
    champion,
    compared_with,
    publish,
    restore_aliases,
    scores_on,
    set_aliases,
)
from trainyard.tracking.runs import Live, live
from trainyard.tracking.store import connected, uri

__all__ = [
    "Live",
    "Registered",
    "champion",
    "compared_with",
    "connected",
    "live",
    "publish",
    "restore_aliases",
    "scores_on",
    "set_aliases",
    "uri",
]
