"""Measures of redundancy between maps; numpy only, used by training and by the views."""
