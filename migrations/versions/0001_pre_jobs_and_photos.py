"""Jobs and photos.

Revision: 0001, after nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_name"), "jobs", ["name"])
    op.create_table(
        "photos",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("job_id", sa.String(16), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("claim_token", sa.String(32), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("derivative_key", sa.Text(), nullable=True),
        sa.Column("sidecar_key", sa.Text(), nullable=True),
        sa.Column("faces", sa.Integer(), nullable=True),
        sa.Column("faces_restored", sa.Integer(), nullable=True),
        sa.Column("elapsed_s", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_advice", sa.Text(), nullable=True),
        sa.Column("error_stage", sa.String(64), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'published', 'claimed', 'done', 'failed')",
            name=op.f("ck_photos_state_is_known"),
        ),
        sa.CheckConstraint(
            "(state = 'claimed') = (claim_token IS NOT NULL)",
            name=op.f("ck_photos_only_a_claim_has_a_token"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_photos_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_photos")),
        sa.UniqueConstraint("job_id", "key", name=op.f("uq_photos_job_id_key")),
    )
    op.create_index(op.f("ix_photos_state_not_before_id"), "photos", ["state", "not_before", "id"])
    op.create_index(op.f("ix_photos_job_id_state"), "photos", ["job_id", "state"])


def downgrade() -> None:
    op.drop_table("photos")
    op.drop_table("jobs")
