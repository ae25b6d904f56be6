"""Loading: a checkpoint's tensors into a model's memory."""

from octavo.executor.loader.load import load_model as load_model
