"""Settings of a Superset for one person on one machine: metadata in SQLite, no Redis, no workers."""

import os
import secrets
from pathlib import Path

HOME = Path(os.environ.get("SUPERSET_HOME", Path.home() / ".superset"))
HOME.mkdir(parents=True, exist_ok=True)

_key = HOME / "secret_key"
if not _key.exists():
    _key.touch(mode=0o600)
    _key.write_text(secrets.token_urlsafe(42))

SECRET_KEY = _key.read_text()
SQLALCHEMY_DATABASE_URI = f"sqlite:///{HOME}/superset.db"
TALISMAN_ENABLED = False  # plain HTTP, on loopback
