-- The archive of one flow took longer to plan than to do: PL/pgSQL plans a statement whose parameters
-- are arrays anew for each call. Their plans are kept from the first call of a session on.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: every statement of the archive, and of what guards the log, finds rows by a key, whatever
-- the values are
DO $$
DECLARE
    own regprocedure;
BEGIN
    FOR own IN
        SELECT routine.oid
        FROM pg_proc AS routine
        WHERE routine.pronamespace = quote_ident(current_schema())::regnamespace
            AND routine.proname IN ('archive_flows', 'refuse_delete_of_live_artifacts',
                'refuse_delete_of_live_chunks', 'refuse_delete_of_live_flows',
                'refuse_delete_of_live_uses', 'refuse_delete_of_used_artifacts')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan', own);
    END LOOP;
END
$$
