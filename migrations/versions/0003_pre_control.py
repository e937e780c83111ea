"""A job's status, priority and hours; a photo's memory class, small for those that are there.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PENDING = sa.text("state = 'pending'")
_ONLY = {"postgresql_where": _PENDING, "sqlite_where": _PENDING}


def upgrade() -> None:
    # Both databases add a column with its constraint; Alembic would copy the table on SQLite.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN status VARCHAR(16) DEFAULT 'active' NOT NULL "
        "CONSTRAINT ck_jobs_status_is_known CHECK (status IN ('active', 'paused', 'cancelled'))"
    )
    op.execute("ALTER TABLE jobs ADD COLUMN priority INTEGER DEFAULT 0 NOT NULL")
    op.execute("ALTER TABLE jobs ADD COLUMN hours VARCHAR(16)")
    op.execute("ALTER TABLE jobs ADD COLUMN open BOOLEAN DEFAULT TRUE NOT NULL")
    # A worker that has too little memory for a photo moves it to the next class.
    op.execute(
        "ALTER TABLE photos ADD COLUMN memory_class VARCHAR(16) DEFAULT 'small' NOT NULL "
        "CONSTRAINT ck_photos_memory_class_is_known "
        "CHECK (memory_class IN ('small', 'medium', 'large'))"
    )
    op.drop_index("ix_photos_pending", "photos")
    columns = ["job_id", "memory_class", "not_before", "id"]
    op.create_index("ix_photos_pending", "photos", columns, **_ONLY)


def downgrade() -> None:
    op.drop_index("ix_photos_pending", "photos")
    op.create_index("ix_photos_pending", "photos", ["job_id", "not_before", "id"], **_ONLY)
    op.execute("ALTER TABLE photos DROP COLUMN memory_class")
    for column in ("open", "hours", "priority", "status"):
        op.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
