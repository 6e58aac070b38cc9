"""Sauron: U-Nets that lose their redundant filters while they train.

Training backend. Importing this package imports no torch, so that commands answer and views open at once.
"""

__version__ = "0.1.0"
