"""Training from a view: what may be trained, with which settings, and in which processes. No widgets, no torch."""
