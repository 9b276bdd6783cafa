"""Layer 5: a study is a graph of stages; planned without running, run without computing twice."""
