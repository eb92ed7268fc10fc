"""Train one head on embeddings, in memory or on disk: `fit_head`, and the command `fit`."""

from smoothmax.fit._fit import Fitted, fit_head
from smoothmax.fit._rules import RULES
from smoothmax.fit._settings import FitSettings
from smoothmax.scan.saved_head import SavedHead, load_head

__all__ = ["RULES", "FitSettings", "Fitted", "SavedHead", "fit_head", "load_head"]
