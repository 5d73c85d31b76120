"""From a study to planned runs."""
