"""An upgrade of a large log while writers of both versions are alive."""
