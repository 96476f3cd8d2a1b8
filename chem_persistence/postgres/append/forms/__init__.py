"""The forms in which an append is sent: rows, the columns of one event, and JSON documents."""
