-- Wait until no other process migrates this schema, and keep the others waiting until this transaction ends.
-- $1 text schema
SELECT pg_advisory_xact_lock(hashtextextended('chem_persistence migrations ' || $1::text, 0))
