-- The hash chain as an aggregate: each link is the SHA-256 of the previous link and the event's
-- canonical content.
CREATE FUNCTION next_link(link bytea, content text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN sha256(link || convert_to(content, 'UTF8')); END $$;
CREATE AGGREGATE chain(text) (SFUNC = next_link, STYPE = bytea,
    INITCOND = '\x0000000000000000000000000000000000000000000000000000000000000000');
