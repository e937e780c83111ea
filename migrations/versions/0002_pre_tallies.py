"""Tallies, filled for the photos that are there, and an index for each state that is looked for.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEXES = {
    "pending": ["job_id", "not_before", "id"],
    "published": ["id"],
    "claimed": ["id"],
    "failed": ["job_id", "key"],
}


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("job_id", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("photos", sa.BigInteger(), nullable=False),
        sa.Column("faces", sa.BigInteger(), nullable=False),
        sa.Column("faces_restored", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_tallies_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "state", "code", "slot", name=op.f("pk_tallies")),
    )
    op.execute(
        "INSERT INTO tallies (job_id, state, code, slot, photos, faces, faces_restored) "
        "SELECT job_id, state, COALESCE(error_code, ''), 0, COUNT(*), "
        "COALESCE(SUM(faces), 0), COALESCE(SUM(faces_restored), 0) "
        "FROM photos GROUP BY job_id, state, COALESCE(error_code, '')"
    )
    for state, columns in _INDEXES.items():
        only = sa.text(f"state = '{state}'")
        op.create_index(
            f"ix_photos_{state}", "photos", columns, postgresql_where=only, sqlite_where=only
        )
    op.drop_index(op.f("ix_photos_state_not_before_id"), "photos")
    op.drop_index(op.f("ix_photos_job_id_state"), "photos")


def downgrade() -> None:
    op.create_index(op.f("ix_photos_job_id_state"), "photos", ["job_id", "state"])
    op.create_index(op.f("ix_photos_state_not_before_id"), "photos", ["state", "not_before", "id"])
    for state in _INDEXES:
        op.drop_index(f"ix_photos_{state}", "photos")
    op.drop_table("tallies")
