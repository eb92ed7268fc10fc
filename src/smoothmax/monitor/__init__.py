"""The measures of smoothness inside a training loop, and where they are written."""

from smoothmax.monitor._monitor import Monitor
from smoothmax.monitor._sinks import JSONLines, MLflow, Sink, TensorBoard, WeightsAndBiases

__all__ = ["JSONLines", "MLflow", "Monitor", "Sink", "TensorBoard", "WeightsAndBiases"]
