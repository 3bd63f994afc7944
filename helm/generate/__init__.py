"""Writes what the chart and the runbooks have in common from one source: ``python -m helm.generate``."""
