"""Layer 1: samples, on-disk formats, views, the loader, checks, and the procedural world."""
