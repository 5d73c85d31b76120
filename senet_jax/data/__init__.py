"""From a dataset's name to batches.

A Batch is a dict of NumPy arrays:
  image [B, H, W, C] uint8   as stored; normalised and augmented on the device, inside the step
  label [B] int32
  mask  [B] float32          evaluation only: 1 for an example, 0 for padding
"""

from senet_jax.data.in_memory import Dataset, Split, eval_batches, load, train_batches

__all__ = ["Dataset", "Split", "eval_batches", "load", "train_batches"]
