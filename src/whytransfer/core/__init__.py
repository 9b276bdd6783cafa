"""Layer 0: configuration, plug-ins, records, the artifact store, fingerprints, random streams."""
