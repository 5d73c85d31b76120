"""What XLA on a CPU wants; nothing else depends on how these work."""
