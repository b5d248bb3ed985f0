"""The benchmarks are scripts beside each other: import them as they import themselves."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
