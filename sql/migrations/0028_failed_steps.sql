-- Flows that have failed are found by the class of the error, however few or many they are in a log of
-- a million flows.
-- CREATE INDEX lets nobody append while it reads the rows of the steps. In a large log it is built
-- beforehand, with CREATE INDEX CONCURRENTLY; what is there already is left alone.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the steps that have ever failed, by what follows the last dot in the class of the error,
-- of which a number is kept. The steps that never fail have no entry, and their updates change no
-- column of this index, so they stay HOT (see migration 0025)
CREATE INDEX IF NOT EXISTS workflow_step_executions_error_idx ON workflow_step_executions (
    hashtextextended(substring(error ->> 'error_class' FROM '[^.]*$'), 0), flow_id
) WHERE error IS NOT NULL
