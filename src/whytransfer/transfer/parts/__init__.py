"""The parts that downstream tasks are assembled from."""
