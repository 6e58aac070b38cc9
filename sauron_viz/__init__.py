"""Sauron's views: widgets and dashboards that read run folders. Importing this package imports no torch."""
