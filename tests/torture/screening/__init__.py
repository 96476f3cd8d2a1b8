"""The screening of molecules by workers, under kills of workers and of a Citus cluster's nodes."""
