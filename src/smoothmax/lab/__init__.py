"""Data sets, the training runner and the strategies that runs compare."""
