-- Wait until no other transaction uploads the same content, and keep the others waiting until this one ends.
-- $1 text artifact_hash
SELECT pg_advisory_xact_lock(hashtextextended('chem_persistence artifact ' || current_schema() || ' ' || $1::text, 0))
