"""``python -m gateway`` is the command ``portcullis``."""

import sys

from gateway.cli import main

sys.exit(main())
