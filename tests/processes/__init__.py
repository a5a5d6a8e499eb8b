"""Many real processes on one store."""
