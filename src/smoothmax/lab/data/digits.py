"""Handwritten digits that come with scikit-learn: 10 classes, 1,797 rows of 8 x 8 pixels."""

import numpy as np

from smoothmax.lab.data.dataset import Dataset, needs


def load_digits() -> Dataset:
    """The UCI optical digits with pixels in [0, 1]; no groups, since the writers are not recorded."""
    with needs("The data set 'digits'", "cli"):
        from sklearn import datasets
    pixels, labels = datasets.load_digits(return_X_y=True)
    return Dataset(
        name="digits",
        features=(pixels / 16).astype(np.float32),
        labels=labels.astype(np.int64),
        class_names=tuple("0123456789"),
        notes=("Pixels count from 0 to 16 in the source; they are divided by 16.",),
    )
