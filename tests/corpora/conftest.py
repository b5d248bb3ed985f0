"""The corpora: captures by others with what others found in them. Never copied into the repository."""

from __future__ import annotations

from pathlib import Path

import oracle
import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the corpora; a skip that says so where it is missing, a failure in CI."""
    return oracle.folder()
