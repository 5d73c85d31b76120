"""What differences between networks say: numbers to numbers, without files and studies."""
