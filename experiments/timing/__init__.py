"""What the speed tables are measured with."""
