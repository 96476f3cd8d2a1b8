-- PostgreSQL's default: compressed by default_toast_compression, then out of line, when a row is above 2 KB.
SELECT 1
