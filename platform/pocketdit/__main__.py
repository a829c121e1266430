"""Entry point of ``python -m pocketdit``, the same program as ``lightning`` and ``pocketdit``."""

import sys

from pocketdit.commands.main import main

sys.exit(main())
