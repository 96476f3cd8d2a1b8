-- One event of the client's own flow with an artifact of 4 KB, in one statement; the hash is new
-- and random in the index.
\if :version = 0
SELECT gen_random_uuid() AS flow_id \gset
\endif
\set number random(1, 9000000000000000000)
WITH event AS (INSERT INTO plain_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) VALUES (:flow_id, :version, gen_random_uuid(), now(), 'stepfinished', :finished, '{}', :chain_hash) RETURNING flow_id, seq) INSERT INTO plain_artifacts (artifact_hash, kind, payload, media_type, metadata, flow_id, produced_in_seq) SELECT rpad(to_hex(:number::bigint), 64, '0'), 'Conformer', :artifact, 'application/json', '{}', event.flow_id, event.seq FROM event;
\set version :version + 1
