-- The six CHECKs of event_log become one, which refuses the same rows. The server reads the stored text
-- of each constraint anew for every INSERT, which was a fifth of an append that is alone, and half of
-- that was the list of known event types. It moves into a domain, whose constraint a session reads
-- once. The column stays text: another type would rewrite the table under a lock. That an event type is
-- in lower case follows from the list. Nulls are refused by NOT NULL, and by no CHECK before or after.
-- The two ALTER TABLE need the table to themselves, for milliseconds: no row is read. Rows from before
-- satisfied the six, and are checked after the commit, while others append: see validate_constraints in
-- chem_persistence/postgres/schema/migrations.py.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the known types; another one is added here, without a lock of the table
CREATE DOMAIN event_type_name AS text
    CONSTRAINT event_type_name_check CHECK (VALUE = ANY ('{
        flowinitialized, stepstarted, stepfinished, stepfailed, stepsignal,
        propertypreferenceassigned, retryscheduled, branchcreated,
        userinteractionrequested, userinteractionprovided, flowcompleted,
        stepwaits, flowcancelled
    }'))

-- statement: the rest, and that the type is known
ALTER TABLE event_log ADD CONSTRAINT event_log_check CHECK (
    version >= 0
    AND octet_length(chain_hash) = 32
    AND jsonb_typeof(metadata) = 'object'
    AND (payload ->> 'type') IS NOT DISTINCT FROM event_type::event_type_name
) NOT VALID

-- statement: what it says is said once
ALTER TABLE event_log
    DROP CONSTRAINT event_log_chain_hash_check,
    DROP CONSTRAINT event_log_event_type_known_check,
    DROP CONSTRAINT event_log_event_type_lower_check,
    DROP CONSTRAINT event_log_metadata_check,
    DROP CONSTRAINT event_log_payload_type_check,
    DROP CONSTRAINT event_log_version_check
