"""Entry point for ``python -m pocketdit``, which runs the same program as ``lightning`` and ``pocketdit``."""

import sys

from pocketdit.commands.main import main

sys.exit(main())
