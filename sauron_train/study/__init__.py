"""Studies: settings x seeds x folds, trained into run folders, and brought together in tables."""
