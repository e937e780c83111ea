"""The contract: what a job is. Producer and worker meet only here."""
