"""One proxy run: its initialization, model, tasks, training and measurements."""

from critical.trials.run import Interrupted, Measurement, ProxyRun, Scale, Trainable

__all__ = ["Interrupted", "Measurement", "ProxyRun", "Scale", "Trainable"]
