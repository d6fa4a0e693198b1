"""MLflow: runs while training goes on, and the registry. Files are the truth, MLflow shows them.

Importing this package does not import MLflow, which takes more than a second.
"""

from trainyard.tracking.pinned import Pinned, pin
from trainyard.tracking.promotion import (
    NoAlias,
    again_if_overtaken,
    champion,
    gate,
    promote,
    promote_merged,
    reign,
    restore_aliases,
    rollback,
    set_aliases,
    withdrawn,
)
from trainyard.tracking.provenance import amiss, explain, history, made_from, page
from trainyard.tracking.registry import (
    Registered,
    answers,
    changed,
    compared_with,
    publish,
    refuse_unknown,
    scores_on,
    tag,
)
from trainyard.tracking.runs import Live, content_of, live, stale
from trainyard.tracking.store import connected, uri
from trainyard.tracking.sweeps import Sweep, sweep

__all__ = [
    "Live",
    "NoAlias",
    "Pinned",
    "Registered",
    "Sweep",
    "again_if_overtaken",
    "amiss",
    "answers",
    "champion",
    "changed",
    "compared_with",
    "connected",
    "content_of",
    "explain",
    "gate",
    "history",
    "live",
    "made_from",
    "page",
    "pin",
    "promote",
    "promote_merged",
    "publish",
    "refuse_unknown",
    "reign",
    "restore_aliases",
    "rollback",
    "scores_on",
    "set_aliases",
    "stale",
    "sweep",
    "tag",
    "uri",
    "withdrawn",
]
