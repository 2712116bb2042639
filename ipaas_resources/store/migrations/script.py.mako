"""${message}"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Every change must work beside the version before it: both run during an upgrade."""
    ${upgrades if upgrades else "pass"}
