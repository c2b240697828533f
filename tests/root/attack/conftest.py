"""What the tests of the engine and of the service use."""

from __future__ import annotations

from root.serve.conftest import engine as engine
from root.serve.conftest import service as service
