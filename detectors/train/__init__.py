"""How the shipped models are made and measured: ``python -m detectors.train --help``. Needs the ``train`` extra."""
