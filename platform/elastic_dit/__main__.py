"""``python -m elastic_dit`` is the same program as ``lightning`` and ``elastic-dit``."""

import sys

from elastic_dit.cli import main

sys.exit(main())
