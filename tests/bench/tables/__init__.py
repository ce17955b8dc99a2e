"""From results to the tables of docs/: what the bench has written, as Markdown between its markers."""
