-- One event of the client's own flow a transaction; every other one is a StepFinished.
\if :version = 0
SELECT gen_random_uuid() AS flow_id \gset
\endif
\set odd :version % 2
\if :odd
INSERT INTO plain_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) VALUES (:flow_id, :version, gen_random_uuid(), now(), 'stepfinished', :finished, '{}', :chain_hash) RETURNING seq;
\else
INSERT INTO plain_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) VALUES (:flow_id, :version, gen_random_uuid(), now(), 'stepstarted', :started, '{}', :chain_hash) RETURNING seq;
\endif
\set version :version + 1
