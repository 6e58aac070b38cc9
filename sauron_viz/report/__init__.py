"""Runs as one file that opens from disk, years later and without this package."""

from sauron_viz.report.content import build_report
from sauron_viz.report.pdf import print_pdf

__all__ = ["build_report", "print_pdf"]
