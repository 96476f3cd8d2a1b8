"""Steps that run other flows as their children: submit, watch, gather, retry and cancel."""
