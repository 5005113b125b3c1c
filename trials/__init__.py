"""One proxy run: its initialization, model, tasks, training and measurements."""

from critical.trials.run import Measurement, ProxyRun, Scale, Trainable

__all__ = ["Measurement", "ProxyRun", "Scale", "Trainable"]
