"""The results of many flows as rows, in pages, and these as CSV, Arrow and Parquet."""
