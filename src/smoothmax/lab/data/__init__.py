"""Data sets to train and compare heads on: built-in ones and your own files.

`load` reads one by name or path, `split` holds rows and whole classes out. What cannot be used
raises `BadData`, whose one line says what is wrong and what to do.
"""

from smoothmax.lab.data.checks import check_rows, from_arrays
from smoothmax.lab.data.dataset import BadData, Dataset
from smoothmax.lab.data.load import DATA_SETS, load
from smoothmax.lab.data.splits import Split, split

__all__ = ["DATA_SETS", "BadData", "Dataset", "Split", "check_rows", "from_arrays", "load", "split"]
