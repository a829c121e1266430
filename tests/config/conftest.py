"""Makes ``gallery`` importable: a package whose classes the configurations of these tests name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "sources"))
