-- Who may do what in the ledger. Run it as the owner, who is also the one to run `gpen-archive migrate`, once and again after each
-- update; it may be repeated:
--
--   psql "$OWNERS_ADDRESS" --set ON_ERROR_STOP=1 --single-transaction --file deploy/roles.sql
--
-- The owner has to have CREATEROLE, or somebody else makes the three roles first. They can't log in. Those who can are made members:
--
--   CREATE ROLE restorer LOGIN PASSWORD '...' IN ROLE gpen_worker;
--
-- gpen_producer   submit, dispatch, pause, resume, cancel, priority, window, retry
-- gpen_worker     gpen-archive-worker: takes photos and says what became of them
-- gpen_monitor    status, export, and whoever draws curves: reads, and nothing else
--
-- None of them adds or drops tables, or deletes rows; `doctor --recount` and `migrate` are the owner's.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['gpen_producer', 'gpen_worker', 'gpen_monitor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON alembic_version, jobs, photos, tallies FROM gpen_producer, gpen_worker, gpen_monitor;

GRANT USAGE ON SCHEMA public TO gpen_producer, gpen_worker, gpen_monitor;
GRANT SELECT ON alembic_version, jobs, photos, tallies TO gpen_producer, gpen_worker, gpen_monitor;

-- A job's source, destination and recipe stay as they were entered, and so does a photo's key.
GRANT INSERT, UPDATE (status, priority, hours, open) ON jobs TO gpen_producer;
GRANT INSERT ON photos TO gpen_producer;
GRANT USAGE ON SEQUENCE photos_id_seq TO gpen_producer;
GRANT UPDATE (
    memory_class, state, attempts, outages, not_before, published_at, worker, claim_token, lease_until, finished_at,
    derivative_key, sidecar_key, faces, faces_restored, elapsed_s, error_code, error_message, error_advice, error_stage
) ON photos TO gpen_producer, gpen_worker;
GRANT INSERT, UPDATE ON tallies TO gpen_producer, gpen_worker;
