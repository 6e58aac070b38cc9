"""Measures of redundancy between maps: numpy and pandas only, used by training, by the views and in notebooks."""
