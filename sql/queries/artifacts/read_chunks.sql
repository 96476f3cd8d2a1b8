-- Read one page of an artifact's chunks, in order.
-- $1 uuid upload_id, $2 integer chunk_no to begin with, $3 bigint rows at most
SELECT chunk_no, content
FROM workflow_step_artifact_chunks
WHERE upload_id = $1 AND chunk_no >= $2
ORDER BY chunk_no
LIMIT $3
