"""Widgets and the panels built of them."""
