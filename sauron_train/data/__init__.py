"""Data sets become cases, subjects and patches; the only place that knows TorchIO."""
