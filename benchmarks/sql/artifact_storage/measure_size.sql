-- Give what all the artifacts take on the disk, with their index and what is out of line.
SELECT pg_total_relation_size($1::text::regclass) AS size
